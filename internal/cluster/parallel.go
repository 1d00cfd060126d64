package cluster

import "golang.org/x/sync/errgroup"

// Concurrency is how many requests are under way at once: enough to hide the
// round trip, few enough not to be a load of their own on a cluster in trouble.
const Concurrency = 16

// Parallel calls f for 0 to n-1 with bounded concurrency, and returns when all
// have returned. Calls with dependencies on each other would deadlock.
func Parallel(n int, f func(i int)) {
	if n == 1 {
		f(0)
		return
	}
	var g errgroup.Group
	g.SetLimit(Concurrency)
	for i := range n {
		g.Go(func() error {
			f(i)
			return nil
		})
	}
	_ = g.Wait() // the functions return no errors
}
