package main

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// pageInfo is where the node's page is, and who vouches for it.
type pageInfo struct {
	URLs []string `json:"urls"`
	Name string   `json:"name"`
	CA   struct {
		Name   string    `json:"name"`
		SHA256 string    `json:"sha256"`
		URLs   []string  `json:"urls"`
		Until  time.Time `json:"until,omitzero"`
	} `json:"ca"`
}

func (a *app) pageCmd() *cobra.Command {
	var caFor string
	c := &cobra.Command{
		Use:     "page",
		GroupID: groupNode,
		Short:   "Where the web page is, with a QR code",
		Long: `Page prints the addresses of the node's web page, the fingerprint of the CA that
vouches for it, and a QR code to open it on a phone.

A phone or laptop trusts the page of every node of the network once the CA is
installed. With --ca-for the CA is handed out in plain HTTP for that long, with
instructions for each system; the QR code then leads there. Compare the
fingerprint shown there with the one printed here. --ca-for 0 ends it at once.`,
		Example:     "  outrider page\n  outrider page --ca-for 15m",
		Args:        cobra.NoArgs,
		Annotations: exits(exitNotRunning, exitConflict),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.page(cmd.Context(), caFor)
		},
	}
	c.Flags().StringVar(&caFor, "ca-for", "", "hand the CA out for this long, at most 24h; 0 ends it")
	return c
}

func (a *app) page(ctx context.Context, caFor string) error {
	var info pageInfo
	show := func() { a.showPage(info) }
	if caFor == "" {
		return a.do(ctx, http.MethodGet, "/v1/page", nil, &info, show)
	}
	d := time.Duration(0)
	if caFor != "0" {
		var err error
		if d, err = parseSpan(caFor, time.Second, 24*time.Hour); err != nil {
			return usageError("--ca-for %q: %v; 0 ends it", shorten(caFor), err)
		}
	}
	return a.do(ctx, http.MethodPost, "/v1/page/ca", map[string]int64{"for_s": int64(d / time.Second)}, &info, show)
}

func (a *app) showPage(p pageInfo) {
	for _, u := range p.URLs {
		a.printf("page         %s\n", clean(u))
	}
	a.printf("CA           %s\n", clean(p.CA.Name))
	pairs := strings.Split(p.CA.SHA256, ":")
	for len(pairs) > 8 { // as the page and most devices show it
		a.printf("SHA-256      %s\n", clean(strings.Join(pairs[:8], ":")))
		pairs = pairs[8:]
	}
	a.printf("SHA-256      %s\n", clean(strings.Join(pairs, ":")))
	to := ""
	for _, u := range p.URLs {
		if strings.HasPrefix(u, "https:") {
			to = u
			break
		}
	}
	for i, u := range p.CA.URLs {
		a.printf("hands it out %s until %s\n", clean(u), when(p.CA.Until))
		if i == 0 {
			to = u
		}
	}
	if to == "" {
		where := "is off"
		if len(p.URLs) > 0 {
			where = "is for this machine only"
		}
		a.printf("The page %s. For phones and laptops write this into outrider.toml and\nstart the node again:\n\n[page]\nlisten = [\"127.0.0.1\", \"0.0.0.0\"]\n", where)
		return
	}
	a.showQR(to + "#") // QR codes of ours part at the #
}
