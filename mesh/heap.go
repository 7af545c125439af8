package mesh

// A rankHeap is a priority queue of bundles, smallest rank first.
type rankHeap []ranked

type ranked struct {
	rank uint64
	at   ref
}

func (h *rankHeap) push(r ranked) {
	*h = append(*h, r)
	q := *h
	for i := len(q) - 1; i > 0; {
		up := (i - 1) / 2
		if q[up].rank <= q[i].rank {
			return
		}
		q[up], q[i] = q[i], q[up]
		i = up
	}
}

func (h *rankHeap) pop() ranked {
	q := *h
	top, last := q[0], len(q)-1
	q[0] = q[last]
	q = q[:last]
	*h = q
	for i := 0; ; {
		least := i
		for _, c := range [...]int{2*i + 1, 2*i + 2} {
			if c < last && q[c].rank < q[least].rank {
				least = c
			}
		}
		if least == i {
			return top
		}
		q[i], q[least] = q[least], q[i]
		i = least
	}
}
