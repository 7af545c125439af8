package policy

import (
	"cmp"
	"slices"

	"outrider/mesh/identity"
)

// A Source is the way a version came to this node. A higher one outranks a
// lower one, whatever their sequences (config-and-ui.md 3).
type Source uint8

// The sources.
const (
	FromLink Source = 1 // a link, or a code that holds one
	FromFile Source = 2
	FromMesh Source = 3
)

func (s Source) String() string {
	switch s {
	case FromLink:
		return "link"
	case FromFile:
		return "file"
	case FromMesh:
		return "mesh"
	}
	return "unknown"
}

// A Version is a genuine version of a group's policy, and how it came here.
type Version struct {
	Config
	Signed identity.SignedConfig
	Source Source
	// Unverified: a clock that was not to be trusted has let it in.
	Unverified bool
}

// A Group is the policy of one group as it is in force.
type Group struct {
	Version        // the one in force; of two that contradict each other, one of them
	Seen    uint64 // the highest sequence that has been seen of this group
	// Against are the hashes of the versions that claim the same sequence and
	// differ; the stricter value of each field is in force then.
	Against [][32]byte
}

// A State is what follows from all versions known.
type State struct {
	Groups []Group // in force, by name
	// Withdrawn are the groups whose policy has been taken back, with the
	// sequence up to which no version counts any more.
	Withdrawn map[string]uint64
}

// Judge works out what is in force: of each group the versions that were not
// withdrawn; of these the highest source; of these the highest sequence. The
// order of the versions does not matter.
func Judge(versions []Version) State {
	st := State{Withdrawn: map[string]uint64{}}
	seen := map[string]uint64{}
	for _, v := range versions {
		seen[v.Group] = max(seen[v.Group], v.Sequence)
		if v.Withdrawn {
			st.Withdrawn[v.Group] = max(st.Withdrawn[v.Group], v.Sequence)
		}
	}
	best := map[string][]Version{}
	for _, v := range versions {
		if v.Sequence <= st.Withdrawn[v.Group] {
			continue
		}
		list := best[v.Group]
		switch c := compare(list, v); {
		case c < 0:
			list = []Version{v}
		case c == 0:
			list = append(list, v)
		}
		best[v.Group] = list
	}
	for name, list := range best {
		for _, v := range versions { // one number stands for one thing, whatever the way
			if v.Group == name && v.Sequence == list[0].Sequence && v.Source < list[0].Source && !v.Withdrawn {
				list = append(list, v)
			}
		}
		st.Groups = append(st.Groups, merge(list, seen[name]))
	}
	slices.SortFunc(st.Groups, func(a, b Group) int { return cmp.Compare(a.Group, b.Group) })
	return st
}

// compare orders what stands against a version: below 0 means that it wins.
func compare(list []Version, v Version) int {
	if len(list) == 0 {
		return -1
	}
	return cmp.Or(cmp.Compare(list[0].Source, v.Source), cmp.Compare(list[0].Sequence, v.Sequence))
}

// merge makes one of the versions that claim one place. Normally there is one;
// of several the stricter value of each field holds: who is in any of them is
// a member, what any forbids is forbidden, and nobody reads along whom not all
// name.
func merge(list []Version, seen uint64) Group {
	slices.SortFunc(list, func(a, b Version) int {
		x, y := a.Signed.Hash(), b.Signed.Hash()
		return cmp.Or(cmp.Compare(b.Source, a.Source), slices.Compare(x[:], y[:]))
	})
	g := Group{Version: list[0], Seen: seen}
	for _, v := range list[1:] {
		h := v.Signed.Hash()
		if h == list[0].Signed.Hash() || slices.Contains(g.Against, h) {
			g.Unverified = g.Unverified && v.Unverified
			continue
		}
		g.Against = append(g.Against, h)
		g.Switches = g.Switches.Stricter(v.Switches)
		g.Members = append(slices.Clone(g.Members), v.Members...)
		if g.Compliance != v.Compliance {
			g.Compliance = identity.UserID{}
		}
		g.Later = g.Later || v.Later
	}
	slices.SortFunc(g.Members, identity.UserID.Compare)
	g.Members = slices.Compact(g.Members)
	return g
}

// A Ruling is what one user may do, and which groups say so.
type Ruling struct {
	Switches
	Groups []string // that the user is in, or "default"; none: no policy is known
	// The group that forbids it, empty where it is allowed.
	NoFiles, NoLocation string
}

// Policy returns what holds for a user: the stricter value of each switch of
// all the groups that list the user, or else of the group "default".
func (s State) Policy(user identity.UserID) Ruling {
	r := Ruling{Switches: Allowed}
	var rest *Group
	for i, g := range s.Groups {
		if g.Group == Default {
			rest = &s.Groups[i]
		} else if _, in := slices.BinarySearchFunc(g.Members, user, identity.UserID.Compare); in {
			r.add(g)
		}
	}
	if len(r.Groups) == 0 && rest != nil {
		r.add(*rest)
	}
	return r
}

func (r *Ruling) add(g Group) {
	r.Groups = append(r.Groups, g.Group)
	r.Switches = r.Switches.Stricter(g.Switches)
	if !g.Switches.Files && r.NoFiles == "" {
		r.NoFiles = g.Group
	}
	if !g.Switches.Location && r.NoLocation == "" {
		r.NoLocation = g.Group
	}
}

// ComplianceReaders returns the users who archive what the network says, by
// id: everybody must be able to see who reads along.
func (s State) ComplianceReaders() []identity.UserID {
	var out []identity.UserID
	for _, g := range s.Groups {
		if !g.Compliance.IsZero() {
			out = append(out, g.Compliance)
		}
	}
	slices.SortFunc(out, identity.UserID.Compare)
	return slices.Compact(out)
}
