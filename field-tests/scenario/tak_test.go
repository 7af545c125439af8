package scenario_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"outrider/atak/datapkg"
	"outrider/field-tests/plainsearch"
	"outrider/field-tests/scenario"
	"outrider/field-tests/takclient"
)

// What the TAK clients of Alpha and Charlie say, long enough that a search
// cannot meet it by chance.
const (
	takText         = "two vehicles at the quarry gate, moving to the old sawmill"
	takCallsign     = "RAVEN-KESTREL-SEVEN"
	takFile         = "quarry-gate-overlay.zip"
	takLat, takLon  = 48.29471, 16.45183
	takCarolCall    = "HERON-MERLIN-THREE"
	carolLat, carol = 48.31277, 16.47219
)

// withTAK turns the bridge on at Alpha and Charlie, before they come up.
func withTAK(t *testing.T, f *field) {
	t.Helper()
	for _, b := range []*scenario.Box{f.Alpha, f.Charlie} {
		if err := b.Append("[atak]\nenabled = true\nlisten = \"127.0.0.1:8089\"\nlisten_https = \"127.0.0.1:8443\"\ninterval_s = 1\n"); err != nil {
			t.Fatal(err)
		}
	}
}

// takNeedles is what the clients say, for the search.
func takNeedles(pkg []byte) []plainsearch.Needle {
	all := []plainsearch.Needle{
		plainsearch.Text("chat of a TAK client", takText), plainsearch.Text("callsign", takCallsign), plainsearch.Text("callsign of carol", takCarolCall),
		plainsearch.Text("name of a data package", takFile), plainsearch.Block("block of a data package", pkg[10_000:14_096]),
	}
	all = append(all, plainsearch.Coordinates("position of a TAK client", takLat, takLon)...)
	return append(all, plainsearch.Coordinates("position of carol's TAK client", carolLat, carol)...)
}

// tak connects a client to a node, from inside it. The connection package is
// kept apart: it names its user, and is for the user's own device.
func (f *field) tak(t *testing.T, ctx context.Context, b *scenario.Box, user, callsign string, proto bool) *takclient.Client {
	t.Helper()
	file := filepath.Join(t.TempDir(), "client.zip")
	if _, err := b.CLI(ctx, scenario.UserPassword+"\n", "atak", "enroll", user, "--to", file, "--address", "127.0.0.1", "--password-file", "-"); err != nil {
		t.Fatal(err)
	}
	pkg, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	id, err := takclient.Import(pkg)
	if err != nil {
		t.Fatal(err)
	}
	c, err := takclient.Dial(ctx, takclient.Options{
		Identity: id, Stream: "127.0.0.1:8089", HTTPS: "127.0.0.1:8443", UID: "ANDROID-" + callsign, Callsign: callsign, Proto: proto, Dial: f.world.Node(b.Name).Dial,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// takExchange lets a protobuf client of Alpha and an XML one of Charlie
// exchange positions, a chat and a data package by way of Bravo, and returns
// the package.
func (f *field) takExchange(t *testing.T, ctx context.Context) (pkg []byte) {
	t.Helper()
	var b bytes.Buffer
	data := make([]byte, 50_000)
	rand.Read(data)
	must(t, datapkg.Make(&b, datapkg.Manifest{UID: "p1", Name: "overlay"}, []datapkg.File{{Path: "o/o.bin", Data: data}}))
	alice, carolTAK := f.tak(t, ctx, f.Alpha, f.People[0], takCallsign, true), f.tak(t, ctx, f.Charlie, f.People[2], takCarolCall, false)
	must(t, errors.Join(alice.Position(takLat, takLon), carolTAK.Position(carolLat, carol), carolTAK.Ping(ctx)))

	var contact takclient.Received
	f.ferried(t, ctx, func(soon context.Context) (err error) {
		contact, err = alice.Wait(soon, "carol's position", takclient.Is("a-f-G-U-C"))
		return err
	})
	must(t, alice.Chat(takclient.Somebody{UID: contact.UID, Callsign: contact.Callsign()}, takclient.NewID(), takText))
	_, err := alice.Share(ctx, takFile, b.Bytes(), f.People[2])
	must(t, errors.Join(err, alice.Ping(ctx)))
	var offer takclient.Received
	f.ferried(t, ctx, func(soon context.Context) error {
		_, err1 := carolTAK.Wait(soon, "the chat", takclient.Text(takText))
		_, err2 := carolTAK.Wait(soon, "alice's position", takclient.Is("a-f-G-U-C"))
		var err3 error
		offer, err3 = carolTAK.Wait(soon, "the package", takclient.Is("b-f-t-r"))
		return errors.Join(err1, err2, err3)
	})
	got, err := carolTAK.Fetch(ctx, offer)
	if err != nil || !bytes.Equal(got, b.Bytes()) {
		t.Fatalf("the package came with %d bytes: %v", len(got), err)
	}
	return b.Bytes()
}

// ferried lets Bravo carry until arrived finds nothing missing.
func (f *field) ferried(t *testing.T, ctx context.Context, arrived func(soon context.Context) error) {
	t.Helper()
	must(t, f.Ferry(ctx, f.AlphaID, func() (bool, error) {
		soon, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		return arrived(soon) == nil, nil
	}))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
