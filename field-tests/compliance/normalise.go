// Package compliance tests the archive with real nodes: what two people say is
// in the archive of a third, in the records of features.md 2.
package compliance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Normalise makes a journal of one run comparable with the golden file. It
// puts in place of what differs between runs:
//
//   - the order of the lines, which is that of arrival: that of msg_ts;
//   - ids (message_id, vgroupid, guid, user, bundle and node ids): the kind of id
//     and, in the order in which they first appear, a number. So two that are
//     the same stay the same, and two that differ stay different;
//   - moments: the letters of their form, where they have it;
//   - what vouched for the clock, which is the machine's affair, where something did;
//   - the archive's folder, age_ms, hops, and the chain (n, prev), which the
//     test checks by itself.
//
// Nothing else is touched, and the order of the keys stays.
func Normalise(journal []byte, dir string) ([]byte, error) {
	n := &normaliser{seen: map[string]map[string]string{}}
	var out bytes.Buffer
	lines := bytes.Split(bytes.TrimSuffix(journal, []byte("\n")), []byte("\n"))
	at := map[string]string{}
	for i, line := range lines {
		var probe struct {
			MsgTS string `json:"msg_ts"`
		}
		if err := json.Unmarshal(line, &probe); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		at[string(line)] = probe.MsgTS
	}
	slices.SortStableFunc(lines, func(a, b []byte) int { return strings.Compare(at[string(a)], at[string(b)]) })
	for _, line := range lines {
		s := strings.ReplaceAll(string(line), filepath.Clean(dir), "DIR")
		for _, r := range ids {
			s = r.form.ReplaceAllStringFunc(s, func(m string) string {
				parts := r.form.FindStringSubmatch(m)
				return parts[1] + n.name(r.kind, parts[2]) + parts[3]
			})
		}
		for _, r := range others {
			s = r.form.ReplaceAllString(s, "${1}"+r.by+"${2}")
		}
		out.WriteString(s + "\n")
	}
	return out.Bytes(), nil
}

type normaliser struct{ seen map[string]map[string]string }

func (n *normaliser) name(kind, id string) string {
	if n.seen[kind] == nil {
		n.seen[kind] = map[string]string{}
	}
	if n.seen[kind][id] == "" {
		n.seen[kind][id] = fmt.Sprintf("%s-%d", kind, len(n.seen[kind])+1)
	}
	return n.seen[kind][id]
}

var ids = []struct {
	kind string
	form *regexp.Regexp
}{
	{"message", regexp.MustCompile(`("(?:message_id|msgid|share)":")([0-9a-f]{32})(")`)},
	{"group", regexp.MustCompile(`("vgroupid":")([0-9a-f]{64})(")`)},
	{"guid", regexp.MustCompile(`("guid":")([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(")`)},
	{"user", regexp.MustCompile(`("(?:from|to)":")([a-z2-7]{26})(")`)},
	{"bundle", regexp.MustCompile(`("bundle":")([0-9a-f]{32})(")`)},
	{"node", regexp.MustCompile(`("node":")([a-z2-7]+)(")`)},
}

// others are replaced where they have the form that features.md 2 gives them.
var others = []struct {
	form *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`("msg_ts":")[0-9]{10}\.[0-9]{6}(")`), "SECONDS.MICROS"},
	{regexp.MustCompile(`("time_iso":")[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}(")`), "YYYY-MM-DD hh:mm:ss.mmm"},
	{regexp.MustCompile(`("(?:bor|shareexpiriation|time|ttl|uploadedtimestamp)":")[1-9][0-9]?/[1-9][0-9]?/[0-9]{2} [1-9][0-9]?:[0-9]{2} [AP]M(")`), "M/D/YY h:mm AM"},
	{regexp.MustCompile(`("received":")[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z(")`), "RFC3339"},
	{regexp.MustCompile(`(attachment_)[0-9]{17}(_)`), "yyyymmddhhmmssmmm"},
	{regexp.MustCompile(`("clock":")(?:ntp|peer)(")`), "TRUSTED"},
	{regexp.MustCompile(`("age_ms":)[0-9]+(,)`), "0"},
	{regexp.MustCompile(`("hops":)[0-9]+(,)`), "0"},
	{regexp.MustCompile(`("n":)[0-9]+(,)`), "0"},
	{regexp.MustCompile(`("prev":")[0-9a-f]{64}(")`), "HASH"},
}
