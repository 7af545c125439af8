package atak

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"

	"outrider/atak/cot"
	"outrider/atak/datapkg"
)

// offered sends a file that a device has uploaded to those it offers it to.
func (d *desk) offered(ctx context.Context, c *client, e cot.Event) {
	share, ask := e.Find("fileshare"), e.Find("ackrequest")
	device := share.Attr("senderUid")
	if uid, _, ok := c.identity(); ok {
		device = uid
	}
	to, err := d.dests(ctx, e)
	if err == nil && len(to) == 0 {
		err = errGroups
	}
	var f entry
	if err == nil {
		f, err = d.spool.find(share.Attr("sha256"))
		if errors.Is(err, ErrNotFound) {
			err = errors.New("the file was not uploaded to this node; send it again")
		}
	}
	for _, p := range to {
		if err == nil {
			err = d.sendFile(ctx, device, p, e, f, ask)
		}
	}
	if err != nil {
		size, _ := strconv.ParseInt(share.Attr("sizeInBytes"), 10, 64)
		c.send(d.srv.acknowledge("", ask.Attr("uid"), ask.Attr("tag"), share.Attr("sha256"), size, err.Error()))
		c.tell("Your file was not sent: " + err.Error())
	}
}

func (d *desk) sendFile(ctx context.Context, device string, to PersonID, e cot.Event, f entry, ask *cot.Element) error {
	r, err := d.spool.open(f)
	if err != nil {
		return err
	}
	defer r.Close()
	id, err := d.user.SendFile(ctx, to, f.Name, act("file", e, to), io.NewSectionReader(r, 0, f.Size))
	if err != nil {
		return err
	}
	if ask.Attr("ackrequested") == "true" {
		d.remember(id, sent{device: device, to: Person{ID: to}, id: ask.Attr("uid"), file: true, tag: ask.Attr("tag"), of: f})
	}
	return nil
}

// lookAtPackages takes files that came for the user, one at a time, checks
// that unpacking them can do no harm, and offers them to the clients.
func (d *desk) lookAtPackages(ctx context.Context) {
	for {
		select {
		case <-d.packages.ready:
			for _, m := range d.packages.take() {
				if ctx.Err() == nil {
					d.lookAt(ctx, m)
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

func (d *desk) lookAt(ctx context.Context, m Message) {
	if !isZip(m.File) {
		d.tellAll(m.Peer.Name + " sent the file " + m.File.Name + ". It is no data package: open it on the node's page.")
		return
	}
	f, err := d.fetch(ctx, m)
	switch {
	case errors.Is(err, datapkg.ErrUnsafe):
		d.tellAll(m.Peer.Name + " sent " + m.File.Name + ", which was not given to your device: " + err.Error())
	case errors.Is(err, ErrFull), errors.Is(err, ErrTooLarge):
		d.tellAll(m.Peer.Name + " sent " + m.File.Name + ". There is no room to give it to your device: open it on the node's page.")
	case err != nil:
		if ctx.Err() == nil {
			d.srv.log.Warn("atak: a file could not be given to the clients", "err", err)
		}
	default:
		for _, c := range d.all() {
			if _, _, ok := c.identity(); ok {
				c.send(d.srv.offer(m, f, d.srv.contentURL(c.conn.LocalAddr(), f.Hash)))
			}
		}
	}
}

func isZip(f File) bool {
	return strings.HasSuffix(strings.ToLower(f.Name), ".zip") || strings.Contains(f.MediaType, "zip")
}

// fetch copies a file that came into the spool, where it can be read at any
// place, and checks it there.
func (d *desk) fetch(ctx context.Context, m Message) (entry, error) {
	r, err := d.user.OpenFile(ctx, m.ID)
	if err != nil {
		return entry{}, err
	}
	defer r.Close()
	f, err := d.spool.add(entry{Name: m.File.Name, Type: packageType, Creator: uidOf(m.Peer.ID), Tool: "public"}, "", r)
	if err != nil {
		return f, err
	}
	if err := d.checkPackage(f); err != nil {
		return f, errors.Join(err, d.spool.remove(f.Hash))
	}
	return f, nil
}

// checkPackage reads a file of the spool as a data package.
func (d *desk) checkPackage(f entry) error {
	r, err := d.spool.open(f)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = datapkg.Check(r, f.Size)
	return err
}

func (d *desk) tellAll(text string) {
	for _, c := range d.all() {
		c.tell(text)
	}
}

// contentURL is where a client that is connected to an address of ours fetches
// a file.
func (s *Server) contentURL(local net.Addr, hash string) string {
	host, _, _ := net.SplitHostPort(local.String())
	_, files := s.Addrs()
	_, port, _ := net.SplitHostPort(files.String())
	u := url.URL{Scheme: "https", Host: net.JoinHostPort(host, port), Path: "/Marti/sync/content", RawQuery: "hash=" + hash}
	return u.String()
}
