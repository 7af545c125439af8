package doctor

import (
	"context"
	"fmt"
	"time"
)

// A Policy is that of one security group, as it is in force.
type Policy struct {
	Group    string
	Version  uint64
	Seen     uint64 // the highest version that was ever seen
	Source   string // link, file or mesh
	Expires  time.Time
	Conflict bool // one number, two contents
}

// checkPolicy looks at what admins decided for users.
func checkPolicy(_ context.Context, e Env) (out []Finding) {
	if e.Folder.PolicyDamage != "" {
		out = append(out, found("policy-damaged", "dir", e.Dir, "why", e.Folder.PolicyDamage))
	}
	for _, p := range e.Folder.Policies {
		version := fmt.Sprint(p.Version)
		if p.Conflict {
			out = append(out, found("policy-conflict", "group", p.Group, "version", version))
		}
		if past := e.Now().Sub(p.Expires); !p.Expires.IsZero() && past > 0 {
			out = append(out, found("policy-past-date", "group", p.Group, "version", version, "days", days(past)))
		}
		if p.Seen > p.Version {
			out = append(out, found("policy-behind", "group", p.Group, "version", version, "seen", fmt.Sprint(p.Seen), "source", p.Source))
		}
	}
	return out
}

// days counts a day that has begun.
func days(d time.Duration) string {
	n := 1 + int(d/(24*time.Hour))
	if n == 1 {
		return "1 day"
	}
	return fmt.Sprint(n, " days")
}
