// Command netbox is what runs in the containers of the test pods. It serves,
// dials, crashes and logs on demand, as a small stand-in for real applications.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage:
  netbox serve ADDR...                 answer HTTP on every ADDR (":8000"), log each connection
  netbox dial HOST:PORT [TIMEOUT]      one request (to port 5432: of PostgreSQL); exit 0 if answered, 1 if not
                                       (TIMEOUT "1s")
  netbox hold HOST:PORT [INTERVAL]     requests on one connection until it breaks, then exit 1
  netbox crash [LINES]                 log LINES lines (3), exit 1
  netbox flood [LINES] [WIDTH]         log LINES lines (100000) of WIDTH bytes (100), then sleep
  netbox hostile                       log terminal escape sequences and other nastiness, then sleep
  netbox sleep                         wait for SIGTERM`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "netbox:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("no command\n%s", usage)
	}
	command, args := args[0], args[1:]
	switch command {
	case "serve":
		return serve(args)
	case "dial":
		return dial(args)
	case "hold":
		return hold(args)
	case "crash":
		return crash(args)
	case "flood":
		return flood(args)
	case "hostile":
		return hostile()
	case "sleep":
		awaitStop()
		return nil
	}
	return fmt.Errorf("unknown command %q\n%s", command, usage)
}

// awaitStop returns at SIGTERM. Process 1 of a container has no default
// handler, so without this every pod would take its whole grace period to stop.
func awaitStop() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	<-signals
}
