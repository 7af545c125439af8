package plainsearch

// automaton finds many byte strings at once (Aho and Corasick, CACM 18(6),
// 1975) with one table look-up per byte. A state is a row of 256 next states;
// the scan's whole memory of the past is the state's number, so input can come
// in pieces of any size.
type automaton struct {
	next []int32 // state*256 + byte
	hits [][]int // by state: forms that end here
}

func newAutomaton(forms []form) *automaton {
	a := &automaton{}
	a.addState()
	for i, f := range forms {
		s := int32(0)
		for _, c := range f.bytes {
			if a.next[int(s)<<8|int(c)] == 0 {
				a.next[int(s)<<8|int(c)] = a.addState()
			}
			s = a.next[int(s)<<8|int(c)]
		}
		a.hits[s] = append(a.hits[s], i)
	}
	a.link()
	return a
}

func (a *automaton) addState() int32 {
	a.next = append(a.next, make([]int32, 256)...)
	a.hits = append(a.hits, nil)
	return int32(len(a.hits) - 1)
}

// link fills in, breadth first, where a state goes on a byte that continues
// none of its strings: where its longest proper suffix goes.
func (a *automaton) link() {
	fail := make([]int32, len(a.hits))
	var queue []int32
	for c := range 256 {
		if t := a.next[c]; t != 0 {
			queue = append(queue, t)
		}
	}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		a.hits[s] = append(a.hits[s], a.hits[fail[s]]...)
		for c := range 256 {
			at := int(s)<<8 | c
			via := a.next[int(fail[s])<<8|c]
			if t := a.next[at]; t != 0 {
				fail[t] = via
				queue = append(queue, t)
			} else {
				a.next[at] = via
			}
		}
	}
}

// scan runs over b from a state, calls found for every hit with the offset
// behind it, and returns the state afterwards.
func (a *automaton) scan(state int32, b []byte, found func(form, end int)) int32 {
	next := a.next
	for i, c := range b {
		state = next[int(state)<<8|int(c)]
		if len(a.hits[state]) != 0 {
			for _, f := range a.hits[state] {
				found(f, i+1)
			}
		}
	}
	return state
}
