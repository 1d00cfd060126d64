package engine

import "time"

// Pace is how many seconds pass in the cluster in one of this machine's; 0 is
// one. Only the cluster of a drill can be faster. The journal carries this
// machine's time; it is what is waited for that comes sooner.
type Pace float64

// Here is how long something of the cluster's time takes on this machine.
func (p Pace) Here(d time.Duration) time.Duration {
	if p <= 0 {
		return d
	}
	return time.Duration(float64(d) / float64(p))
}

// There is how much of the cluster's time passes in some of this machine's.
func (p Pace) There(d time.Duration) time.Duration {
	if p <= 0 {
		return d
	}
	return time.Duration(float64(d) * float64(p))
}
