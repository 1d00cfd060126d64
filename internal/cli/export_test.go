package cli

import (
	"context"
	"reflect"

	"github.com/spf13/cobra"

	"irctl/internal/config"
	"irctl/internal/drill"
	"irctl/internal/engine"
	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/report"
	"irctl/internal/runbook"
	"irctl/internal/steps/detect"
	"irctl/internal/timeline"
)

// MainAt is Main at another time.
func MainAt(ctx context.Context, clock drill.Clock, args []string, streams Streams, getenv func(string) string) int {
	return (&App{Streams: streams, Getenv: getenv, clock: clock}).main(ctx, args)
}

// Commands are all there are, as the root of their tree.
func Commands() *cobra.Command { return (&App{clock: drill.RealClock{}}).root() }

// FormatsOf are what -o can be for a command; KindOf is what its JSON is.
func FormatsOf(c *cobra.Command) []string { return formatsOf(c.CommandPath()) }
func KindOf(c *cobra.Command) string      { return results[c.CommandPath()].kind }

// ResultTypes are the Go types of what is printed as JSON, by their kinds.
var ResultTypes = map[string]reflect.Type{
	"Detection":     reflect.TypeFor[detectResult](),
	"Containment":   reflect.TypeFor[engine.ContainResult](),
	"Investigation": reflect.TypeFor[engine.InvestigateResult](),
	"Eradication":   reflect.TypeFor[engine.EradicateResult](),
	"Recovery":      reflect.TypeFor[recovered](),
	"Undo":          reflect.TypeFor[engine.UndoResult](),
	"Status": reflect.TypeFor[struct {
		Incidents []*engine.StatusResult `json:"incidents"`
	}](),
	"Run":    reflect.TypeFor[engine.RunResult](),
	"Report": reflect.TypeFor[report.Report](),
	"Diagnosis": reflect.TypeFor[struct {
		Checks []diagnosis `json:"checks"`
	}](),
	"Version": reflect.TypeFor[struct {
		Version  string `json:"version"`
		Go       string `json:"go"`
		Platform string `json:"platform"`
	}](),
	"IncidentDetails": reflect.TypeFor[struct {
		Incident incident.Incident `json:"incident"`
		Metrics  timeline.Metrics  `json:"metrics"`
		Closing  *engine.Closing   `json:"closing,omitempty"`
	}](),
	"IncidentList": reflect.TypeFor[struct {
		Incidents []incident.Incident `json:"incidents"`
	}](),
	"Timeline": reflect.TypeFor[struct {
		Entries []timeline.Entry `json:"entries"`
	}](),
	"TimelineVerification": reflect.TypeFor[struct {
		OK     bool            `json:"ok"`
		Report timeline.Report `json:"report"`
	}](),
	"BundleVerification": reflect.TypeFor[engine.BundleVerification](),
	"BundleContents": reflect.TypeFor[struct {
		Files []evidence.Entry `json:"files"`
	}](),
	"EvidenceCleaning": reflect.TypeFor[struct {
		Removed []evidence.Leftover `json:"removed"`
	}](),
	"Custody": reflect.TypeFor[struct {
		Custody []evidence.CustodyEntry `json:"custody"`
	}](),
	"RunbookList": reflect.TypeFor[struct {
		Runbooks []runbook.Listed `json:"runbooks"`
	}](),
	"Runbook": reflect.TypeFor[runbook.Runbook](),
	"RunbookProblems": reflect.TypeFor[struct {
		OK       bool              `json:"ok"`
		Problems []runbook.Problem `json:"problems"`
	}](),
	"NewRunbook": reflect.TypeFor[struct {
		Name string `json:"name"`
		File string `json:"file"`
	}](),
	"OperationList": reflect.TypeFor[struct {
		Operations []runbook.Signature `json:"operations"`
	}](),
	"Config": reflect.TypeFor[config.Config](),
	"ConfigValidation": reflect.TypeFor[struct {
		Path       string `json:"path"`
		Recipients int    `json:"recipients"`
		Contacts   int    `json:"contacts"`
	}](),
	"DrillScore": reflect.TypeFor[drill.Score](),
	"ScenarioList": reflect.TypeFor[struct {
		Scenarios []scenarioInfo `json:"scenarios"`
	}](),
	kindFinding:        reflect.TypeFor[detect.Finding](),
	kindCollectionPlan: reflect.TypeFor[evidence.Plan](),
}
