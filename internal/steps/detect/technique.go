package detect

import "strings"

// Technique is one of MITRE ATT&CK's.
type Technique struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// The techniques of ATT&CK for Containers that findings are mapped to.
// https://attack.mitre.org/matrices/enterprise/containers/
var (
	adminCommand    = Technique{"T1609", "Container Administration Command"}
	deployContainer = Technique{"T1610", "Deploy Container"}
	escapeToHost    = Technique{"T1611", "Escape to Host"}
	clusterRoles    = Technique{"T1098.006", "Additional Container Cluster Roles"}
	containerAPI    = Technique{"T1552.007", "Container API"}
	credentialFiles = Technique{"T1552.001", "Credentials In Files"}
	stealToken      = Technique{"T1528", "Steal Application Access Token"}
	accessToken     = Technique{"T1550.001", "Application Access Token"}
	validAccounts   = Technique{"T1078", "Valid Accounts"}
	defaultAccounts = Technique{"T1078.001", "Default Accounts"}
	externalRemote  = Technique{"T1133", "External Remote Services"}
	exploitPublic   = Technique{"T1190", "Exploit Public-Facing Application"}
	exploitEscalate = Technique{"T1068", "Exploitation for Privilege Escalation"}
	maliciousImage  = Technique{"T1204.003", "Malicious Image"}
	implantImage    = Technique{"T1525", "Implant Internal Image"}
	masquerading    = Technique{"T1036", "Masquerading"}
	matchLegitimate = Technique{"T1036.005", "Match Legitimate Name or Location"}
	removal         = Technique{"T1070", "Indicator Removal"}
	serviceScan     = Technique{"T1046", "Network Service Discovery"}
	resourceScan    = Technique{"T1613", "Container and Resource Discovery"}
	containerSvc    = Technique{"T1543.005", "Container Service"}
	hijacking       = Technique{"T1496", "Resource Hijacking"}
	endpointDoS     = Technique{"T1499", "Endpoint Denial of Service"}
	destruction     = Technique{"T1485", "Data Destruction"}
)

// byID are the techniques that a Falco rule may name itself.
var byID = func() map[string]Technique {
	m := map[string]Technique{}
	for _, t := range []Technique{adminCommand, deployContainer, escapeToHost, clusterRoles, containerAPI,
		credentialFiles, stealToken, accessToken, validAccounts,
		defaultAccounts, externalRemote, exploitPublic, exploitEscalate, maliciousImage, implantImage, masquerading,
		matchLegitimate, removal, serviceScan,
		resourceScan, containerSvc, hijacking, endpointDoS, destruction} {
		m[t.ID] = t
	}
	return m
}()

// byTactic is what comes closest in the matrix for containers to a rule whose
// own technique that matrix does not have; Falco's rules are tagged with the
// whole of ATT&CK, by tactics too.
var byTactic = map[string]Technique{
	"mitre_initial_access":       exploitPublic,
	"mitre_execution":            adminCommand,
	"mitre_persistence":          containerSvc,
	"mitre_privilege_escalation": escapeToHost,
	"mitre_defense_evasion":      removal,
	"mitre_credential_access":    credentialFiles,
	"mitre_discovery":            resourceScan,
	"mitre_lateral_movement":     accessToken,
	"mitre_impact":               hijacking,
}

// techniqueOf reads the tags of a Falco rule; zero where they tell nothing.
func techniqueOf(tags []string) Technique {
	for _, tag := range tags {
		if t, ok := byID[tag]; ok {
			return t
		}
	}
	for _, tag := range tags {
		if t, ok := byTactic[strings.ToLower(tag)]; ok {
			return t
		}
	}
	return Technique{}
}
