package mesh

import (
	"crypto/sha256"
	"fmt"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/reconcile"
	"outrider/mesh/routing"
)

// ParseFrame takes a frame apart, strictly: every length is checked before it
// is used, every number has a limit, nothing may follow. What it returns
// aliases raw. A type it does not know is no error. It also computes what
// costs time, the hashes of bundles, so that drivers can parse outside the
// machine's goroutine.
func ParseFrame(raw []byte) (Frame, error) {
	if len(raw) == 0 {
		return nil, ErrMalformed
	}
	r := &reader{data: raw[1:]}
	f := parseControl(raw[0], r)
	if f == nil {
		f = parseCounted(raw[0], r)
	}
	if f == nil {
		return unknownFrame{raw[0]}, nil
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("%w of type %s", ErrMalformed, FrameName(raw[0]))
	}
	return f, nil
}

func parseControl(kind byte, r *reader) Frame {
	switch kind {
	case typeState:
		return parseState(r)
	case typeSync:
		f := syncFrame{Seq: r.num(1 << 62), Root: r.id()}
		f.FreeKiB = r.num(1 << 62)
		return f
	case typeTags:
		return parseTags(r)
	case typeScopes:
		var f scopesFrame
		for i := range f.Prints {
			f.Prints[i] = reconcile.Fingerprint{Count: r.num(1 << 32), Sum: r.u64()}
		}
		return f
	case typeDiffer:
		return differFrame{flags(r, 1<<routing.Scopes-1)}
	case typeAsk:
		f := askFrame{Scope: scope(r), Start: int(r.num(reconcile.MaxSymbols))}
		f.Count = int(r.num(maxBatch))
		return f
	case typeWant:
		f := wantFrame{Scope: scope(r), Last: flags(r, 1) == 1}
		f.Shorts = r.words(maxShorts)
		return f
	case typeList:
		return listFrame{scope(r)}
	case typePick:
		f := pickFrame{Num: r.num(1 << 62)}
		f.Bits = r.rest()
		if len(f.Bits) > maxBatch/8 {
			r.bad = true
		}
		return f
	case typeGone:
		return goneFrame{r.words(maxShorts)}
	case typeAck:
		return parseAck(r)
	case typeAbort:
		return abortFrame{r.num(1 << 62)}
	case typePartial:
		return parsePartial(r)
	case typeQuery:
		return queryFrame{Query: r.u64(), Tag: tag(r), Hops: r.u8()}
	case typePath:
		return pathFrame{Query: r.u64(), Tag: tag(r), Hops: r.u8()}
	}
	return parseBlobControl(kind, r)
}

func parseBlobControl(kind byte, r *reader) Frame {
	switch kind {
	case typeBlobAsk:
		var f blobAskFrame
		for len(r.data) > 0 && !r.bad && len(f.Roots) < maxRoots {
			f.Roots = append(f.Roots, r.root())
		}
		return f
	case typeBlobHave:
		f := blobHaveFrame{Root: r.root(), Length: r.num(blob.MaxLength)}
		if len(r.data) > maxStretch {
			r.bad = true
		}
		f.Stretch = r.rest()
		return f
	case typeBlobWant:
		f := blobWantFrame{Pull: r.num(1 << 62), Root: r.root(), First: int(r.num(blob.MaxLeaves))}
		f.Count, f.Offset = int(r.num(blob.GroupLeaves)), int(r.num(blob.LeafSize))
		f.Proof = flags(r, 1) == 1
		return f
	case typeBlobEnd:
		return blobEndFrame{r.num(1 << 62)}
	}
	return nil
}

func parseCounted(kind byte, r *reader) Frame {
	switch kind {
	case typeSymbols:
		return parseSymbols(r)
	case typeOffer:
		return parseOffer(r)
	case typeBundle:
		h := parseTransfer(r)
		h.Size = int(r.num(bundle.MaxPayload))
		f := bundleFrame{transferHead: h, Body: r.bytes(h.Size)}
		if !r.bad {
			f.PayloadHash = sha256.Sum256(f.Body)
			f.ID = bundle.HashOf(f.Header.Raw(), f.PayloadHash).ID()
			f.Blob = descriptor(f.Header, f.Body)
		}
		return f
	case typeBegin:
		f := beginFrame{transferHead: parseTransfer(r)}
		f.PayloadHash, f.Size = r.root(), int(r.num(bundle.MaxPayload))
		f.Offset = int(r.num(uint64(f.Size)))
		f.Body = body(r, f.Size-f.Offset)
		f.ID = bundle.HashOf(f.Header.Raw(), f.PayloadHash).ID()
		return f
	case typeData:
		f := dataFrame{Num: r.num(1 << 62), Offset: int(r.num(bundle.MaxPayload))}
		f.Body = body(r, bundle.MaxPayload-f.Offset)
		return f
	case typePurge:
		return parsePurge(r)
	case typeProof:
		f := proofFrame{Pull: r.num(1 << 62), Group: int(r.num(blob.MaxLeaves))}
		f.Body = body(r, blob.MaxProof)
		return f
	case typeLeaf:
		f := leafFrame{Pull: r.num(1 << 62), Leaf: int(r.num(blob.MaxLeaves)), Offset: int(r.num(blob.LeafSize))}
		f.Body = body(r, blob.LeafSize-f.Offset)
		return f
	}
	return nil
}

func scope(r *reader) routing.Scope {
	s := routing.Scope(r.u8())
	if s >= routing.Scopes {
		r.bad = true
		return 0
	}
	return s
}

func flags(r *reader, known byte) byte {
	v := r.u8()
	if v&^known != 0 {
		r.bad = true
	}
	return v
}

func tag(r *reader) (t [8]byte) {
	copy(t[:], r.bytes(8))
	return t
}

// body takes the rest, which must not be empty nor longer than limit.
func body(r *reader, limit int) []byte {
	b := r.rest()
	if len(b) == 0 || len(b) > limit {
		r.bad = true
	}
	return b
}

// parseState ignores what follows the last field it knows: a later version
// may append fields.
func parseState(r *reader) Frame {
	f := stateFrame{Min: r.u8(), Max: r.u8()}
	f.Heads = r.part(maxHeads)
	f.Features, f.Generation = r.num(1<<64-1), r.num(1<<32)
	copy(f.Epoch[:], r.bytes(8))
	f.Seq = r.num(1 << 62)
	copy(f.KnownEpoch[:], r.bytes(8))
	f.KnownSeq, f.KnownSpray = r.num(1<<62), r.num(1<<62)
	f.Root = r.id()
	f.FreeKiB, f.AckEvery = r.num(1<<62), r.num(1<<20)
	r.rest()
	return f
}

func parseTags(r *reader) Frame {
	fl := flags(r, 7)
	f := tagsFrame{Replace: fl&1 != 0, All: fl&2 != 0, Archive: fl&4 != 0}
	f.Add, f.Remove = tagSet(r), tagSet(r)
	return f
}

func tagSet(r *reader) []uint32 {
	n := int(r.num(reconcile.MaxRice))
	part := r.part(len(r.data))
	if r.bad {
		return nil
	}
	set, err := reconcile.ParseRice(part, n)
	if err != nil {
		r.bad = true
	}
	return set
}

func parseAck(r *reader) Frame {
	f := ackFrame{Got: r.num(1 << 62)}
	next := uint64(0)
	for len(r.data) > 0 && !r.bad {
		run := ackRun{First: next + r.num(1<<61), Count: r.num(1 << 20), Code: Code(r.u8())}
		next = run.First + run.Count
		f.Runs = append(f.Runs, run)
		if len(f.Runs) > maxRuns || run.Count == 0 || next > 1<<62 {
			r.bad = true
		}
	}
	return f
}

func parsePartial(r *reader) Frame {
	var f partialFrame
	for len(r.data) > 0 && !r.bad && len(f.Items) < maxPartials {
		f.Items = append(f.Items, partialItem{ID: r.id(), Have: int(r.num(bundle.MaxPayload))})
	}
	return f
}

func parseSymbols(r *reader) Frame {
	f := symbolsFrame{Scope: scope(r), Start: int(r.num(reconcile.MaxSymbols)), Total: r.num(1 << 32)}
	if r.bad {
		return f
	}
	var err error
	if f.Symbols, err = reconcile.ParseSymbols(r.rest(), f.Start, f.Total); err != nil || len(f.Symbols) > maxBatch {
		r.bad = true
	}
	return f
}

func parseOffer(r *reader) Frame {
	f := offerFrame{Num: r.num(1 << 62)}
	fl := flags(r, 15)
	f.Last, f.Spray, f.List = fl&2 != 0, fl&4 != 0, fl&8 != 0
	f.Scope, f.Upto = scope(r), r.num(1<<62)
	if fl&1 == 0 {
		f.Shorts = r.words(maxBatch)
		return f
	}
	for len(r.data) > 0 && !r.bad && len(f.IDs) < maxBatch {
		f.IDs = append(f.IDs, r.id())
	}
	if len(f.IDs) == 0 {
		r.bad = true
	}
	return f
}

func parseTransfer(r *reader) (h transferHead) {
	h.Num = r.num(1 << 62)
	hop, header := r.part(bundle.MaxHop), r.part(bundle.MaxHeader)
	if r.bad {
		return h
	}
	var err error
	if h.Hop, err = bundle.ParseHop(hop); err != nil {
		r.bad = true
		return h
	}
	if h.Header, err = bundle.ParseHeader(header); err != nil {
		r.bad = true
	}
	return h
}

func parsePurge(r *reader) Frame {
	f := purgeFrame{Num: r.num(1 << 62)}
	if r.bad {
		return f
	}
	var err error
	if f.Record, err = bundle.ParsePurgeRecord(r.rest()); err != nil {
		r.bad = true
		return f
	}
	f.ID, f.Valid = f.Record.ID(), f.Record.Valid()
	return f
}

// descriptor reads the payload of a blob bundle; nil for any other bundle and
// for one whose leaves cannot be asked for.
func descriptor(h bundle.Header, payload []byte) *blob.Descriptor {
	if h.Kind != bundle.KindBlob {
		return nil
	}
	d, err := blob.ParseDescriptor(payload)
	if err != nil {
		return nil
	}
	return &d
}
