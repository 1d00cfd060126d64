package evidence

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRecipientsFromKeyFiles(t *testing.T) {
	g := newGnupg(t)
	alice := g.key("Alice <alice@example.org>", "rsa2048", "rsa2048")
	bob := g.key("Bob <bob@example.org>", "ed25519", "cv25519")
	armored := func(uids ...string) []byte { return g.run(append([]string{"--armor", "--export"}, uids...)...) }

	for name, tc := range map[string]struct {
		file []byte
		want []string
		err  error
	}{
		"armored":          {file: armored(alice), want: []string{alice}},
		"binary":           {file: g.run("--export", bob), want: []string{bob}},
		"binary, several":  {file: g.run("--export", alice, bob), want: []string{alice, bob}},
		"armored, several": {file: armored(alice, bob), want: []string{alice, bob}},
		"several blocks and prose": {file: slices.Concat([]byte("our keys\n"), armored(bob), []byte("\nand\n"),
			armored(alice)), want: []string{bob, alice}},
		"the same twice":         {file: slices.Concat(armored(bob), armored(bob)), want: []string{bob}},
		"private":                {file: g.run("--armor", "--export-secret-keys", bob), err: ErrKeyPrivate},
		"private, binary":        {file: g.run("--export-secret-keys", bob), err: ErrKeyPrivate},
		"one of several damaged": {file: slices.Concat(armored(bob), armored(alice)[:400]), err: ErrKeyUnreadable},
		"no key":                 {file: []byte("hello"), err: ErrKeyUnreadable},
		"empty":                  {file: nil, err: ErrKeyUnreadable},
		"endless":                {file: bytes.Repeat([]byte("x"), maxKeyFile+1), err: ErrKeyUnreadable},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := LoadRecipients(t.Context(), []string{writeFile(t, tc.file)})
			checkRecipients(t, got, err, tc.want, tc.err)
		})
	}
}

func TestRecipientsFromTheKeyring(t *testing.T) {
	g := newGnupg(t)
	alice := g.key("Alice <alice@example.org>", "ed25519", "cv25519")
	twin1 := g.key("Twin <twin@example.org>", "ed25519", "cv25519")
	twin2 := g.key("Other Twin <twin@example.org>", "ed25519", "cv25519", "--allow-freeform-uid")
	g.key("alice@example.org.attacker.example <mallory@example.net>", "ed25519", "cv25519")

	for name, tc := range map[string]struct {
		ref  string
		want []string
		err  error
	}{
		"e-mail":                 {ref: "alice@example.org", want: []string{alice}},
		"e-mail, other case":     {ref: "Alice@Example.ORG", want: []string{alice}},
		"fingerprint":            {ref: alice, want: []string{alice}},
		"fingerprint, lower 0x":  {ref: "0x" + strings.ToLower(alice), want: []string{alice}},
		"fingerprint in groups":  {ref: alice[:20] + "  " + alice[20:], want: []string{alice}},
		"part of an e-mail":      {ref: "lice@example.org", err: ErrKeyNotFound},
		"unknown e-mail":         {ref: "nobody@example.org", err: ErrKeyNotFound},
		"unknown fingerprint":    {ref: strings.Repeat("0", 40), err: ErrKeyNotFound},
		"key ID":                 {ref: alice[24:], err: ErrKeyNotFound},
		"name":                   {ref: "Alice", err: ErrKeyNotFound},
		"an option":              {ref: "--version@example.org", err: ErrKeyNotFound},
		"ambiguous":              {ref: "twin@example.org", err: ErrKeyAmbiguous},
		"one of the twins":       {ref: twin1, want: []string{twin1}},
		"the other of the twins": {ref: twin2, want: []string{twin2}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := LoadRecipients(t.Context(), []string{tc.ref})
			checkRecipients(t, got, err, tc.want, tc.err)
			if errors.Is(tc.err, ErrKeyAmbiguous) &&
				(!strings.Contains(err.Error(), twin1) || !strings.Contains(err.Error(), twin2)) {
				t.Errorf("the error does not list the fingerprints: %v", err)
			}
		})
	}
}

func TestUnusableKeysAreRefusedWithTheReason(t *testing.T) {
	g := newGnupg(t)
	revoked := g.key("Revoked <revoked@example.org>", "ed25519", "cv25519")
	g.revoke(revoked)
	g.key("Signer <signer@example.org>", "ed25519", "")
	g.key("Old <old@example.org>", "ed25519", "cv25519", "--faked-system-time", "20200101T000000")
	g.key("Future <future@example.org>", "ed25519", "cv25519", "--faked-system-time", "20990101T000000")
	// Its encryption subkey alone expired.
	half := g.key("Half <half@example.org>", "ed25519", "")
	g.run("--faked-system-time", time.Now().AddDate(0, 0, 2).Format("20060102T150405"), "--quick-set-expire", half, "0")
	good := g.key("Good <good@example.org>", "ed25519", "cv25519")

	for email, tc := range map[string]struct {
		err  error
		text string
	}{
		"revoked@example.org": {ErrKeyRevoked, "revoked"},
		"signer@example.org":  {ErrKeyCannotEncrypt, "cannot encrypt"},
		"old@example.org":     {ErrKeyExpired, "expired on 2020-12-31"},
		"future@example.org":  {ErrKeyNotYetValid, "clock"},
	} {
		t.Run(email, func(t *testing.T) {
			got, err := LoadRecipients(t.Context(), []string{"good@example.org", email})
			checkRecipients(t, got, err, nil, tc.err)
			if !strings.Contains(err.Error(), tc.text) || !strings.Contains(err.Error(), email) ||
				!strings.Contains(err.Error(), g.fingerprints(email)[0]) {
				t.Errorf("want %q, the reference and the fingerprint in: %v", tc.text, err)
			}
		})
	}
	t.Run("all refused are named", func(t *testing.T) {
		_, err := LoadRecipients(t.Context(), []string{"old@example.org", "revoked@example.org", "missing.asc"})
		for _, want := range []error{ErrKeyExpired, ErrKeyRevoked, ErrKeyNotFound} {
			if !errors.Is(err, want) {
				t.Errorf("want %v in: %v", want, err)
			}
		}
	})
	t.Run("the good one alone", func(t *testing.T) {
		got, err := LoadRecipients(t.Context(), []string{good})
		checkRecipients(t, got, err, []string{good}, nil)
		if got[0].UserID() != "Good <good@example.org>" {
			t.Errorf("user ID %q", got[0].UserID())
		}
	})
}

func TestWithoutGpgAnAddressIsRefusedAndAFileIsNot(t *testing.T) {
	g := newGnupg(t)
	alice := g.key("Alice <alice@example.org>", "ed25519", "cv25519")
	file := writeFile(t, g.run("--export", alice))
	t.Setenv("PATH", t.TempDir())
	if _, err := LoadRecipients(t.Context(), []string{"alice@example.org"}); err == nil ||
		!strings.Contains(err.Error(), "gpg program is needed") {
		t.Errorf("want advice, got %v", err)
	}
	got, err := LoadRecipients(t.Context(), []string{file})
	checkRecipients(t, got, err, []string{alice}, nil)
}

func TestATooTalkativeGpgIsStopped(t *testing.T) {
	newGnupg(t)
	bin := t.TempDir()
	script := "#!/bin/sh\nexec /usr/bin/env yes\n"
	if err := os.WriteFile(bin+"/gpg", []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	_, err := LoadRecipients(t.Context(), []string{"alice@example.org"})
	if !errors.Is(err, ErrKeyUnreadable) || !strings.Contains(err.Error(), "exported more than") {
		t.Errorf("got %v", err)
	}
}

func FuzzParseKeys(f *testing.F) {
	r, _ := testKey(f)
	var public bytes.Buffer
	if err := r.entity.Serialize(&public); err != nil {
		f.Fatal(err)
	}
	f.Add(public.Bytes())
	f.Add([]byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDM=\n-----END PGP PUBLIC KEY BLOCK-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		entities, err := parseKeys(data)
		if err == nil && len(entities) == 0 {
			t.Error("neither keys nor an error")
		}
		for _, e := range entities {
			_ = usable(e, time.Unix(1_700_000_000, 0))
		}
	})
}

func checkRecipients(t *testing.T, got []Recipient, err error, want []string, wantErr error) {
	t.Helper()
	if !errors.Is(err, wantErr) {
		t.Fatalf("error %v, want %v", err, wantErr)
	}
	var fprs []string
	for _, r := range got {
		fprs = append(fprs, r.Fingerprint())
	}
	slices.Sort(fprs)
	want = slices.Sorted(slices.Values(want))
	if !slices.Equal(fprs, want) {
		t.Fatalf("recipients %v, want %v", fprs, want)
	}
}
