package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// crash leaves log lines that only `logs --previous` shows afterwards.
func crash(args []string) error {
	lines, err := count(args, 0, 3)
	if err != nil {
		return fmt.Errorf("crash: %w", err)
	}
	for n := 1; n <= lines; n++ {
		fmt.Printf("crash line %d of %d\n", n, lines)
	}
	return errors.New("crashed as asked")
}

// flood fills the log, for tests of bounded memory.
func flood(args []string) error {
	lines, err := count(args, 0, 100_000)
	if err != nil {
		return fmt.Errorf("flood: %w", err)
	}
	width, err := count(args, 1, 100)
	if err != nil {
		return fmt.Errorf("flood: %w", err)
	}
	out := bufio.NewWriterSize(os.Stdout, 1<<16)
	for n := 1; n <= lines; n++ {
		head := fmt.Sprintf("flood %d ", n)
		fmt.Fprintln(out, head+strings.Repeat("x", max(0, width-len(head)-1)))
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("flood: %w", err)
	}
	awaitStop()
	return nil
}

// hostile logs what an attacker would, to be sure that none of it reaches the
// responder's terminal as anything but text.
func hostile() error {
	for _, line := range []string{
		"\x1b]0;owned\x07 window title",
		"\x1b[2J\x1b[H cleared screen",
		"\x1b]52;c;cm0gLXJmIC8=\x07 clipboard write",
		"\x1b[8m hidden text \x1b[0m",
		"progress 1%\rprogress 100%",
		"right-to-left \u202egpj.exe",
		"C1 control \u009b31m red",
		"invalid \xff\xfe utf-8",
		"nul \x00 byte",
		"long " + strings.Repeat("A", 20_000),
	} {
		fmt.Println(line)
	}
	awaitStop()
	return nil
}

func count(args []string, index, otherwise int) (int, error) {
	if index >= len(args) {
		return otherwise, nil
	}
	return strconv.Atoi(args[index])
}
