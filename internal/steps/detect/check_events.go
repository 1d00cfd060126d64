package detect

// eventScores are the reasons of events that are worth a look, and their weight:
// they corroborate, alone they are everyday life.
var eventScores = map[string]Score{"BackOff": 14, "FailedMount": 16, "Killing": 6}

var eventCodes = map[string]string{"BackOff": "event-backoff", "FailedMount": "event-failed-mount",
	"Killing": "event-killing"}

// checkEvents finds what the cluster's events tell of pods.
var checkEvents = check{name: "events", needs: []list{events}, find: func(s *Snapshot, report func(Finding)) {
	for _, e := range s.Events {
		f := Finding{Code: eventCodes[e.Reason], Score: eventScores[e.Reason], Technique: endpointDoS,
			Subject: Subject{Namespace: e.Namespace, Pod: e.Pod},
			Reason:  e.Reason + ": " + e.Message, FirstSeen: e.First, LastSeen: e.Last, Count: e.Count}
		if e.Reason == "FailedMount" {
			f.Technique = credentialFiles
		}
		s.complete(&f.Subject)
		report(f)
	}
}}
