package mesh

import (
	"encoding/binary"

	"outrider/mesh/reconcile"
)

// appendFrame appends the wire form of a frame. Of frames that carry payload
// it appends all but the payload, which the driver puts behind; BUNDLE and
// BEGIN are made by the driver alone (see Send), since the machine keeps no
// headers.
func appendFrame(dst []byte, f Frame) []byte {
	dst = append(dst, f.kind())
	switch f := f.(type) {
	case stateFrame:
		return appendState(dst, f)
	case syncFrame:
		dst = appendNum(dst, f.Seq)
		dst = append(dst, f.Root[:]...)
		return appendNum(dst, f.FreeKiB)
	case tagsFrame:
		return appendTags(dst, f)
	case scopesFrame:
		for _, p := range f.Prints {
			dst = appendNum(dst, p.Count)
			dst = binary.BigEndian.AppendUint64(dst, p.Sum)
		}
		return dst
	case differFrame:
		return append(dst, f.Mask)
	case askFrame:
		dst = appendNum(append(dst, byte(f.Scope)), uint64(f.Start))
		return appendNum(dst, uint64(f.Count))
	case wantFrame:
		return appendWords(append(dst, byte(f.Scope), bitIf(f.Last, 1)), f.Shorts)
	case listFrame:
		return append(dst, byte(f.Scope))
	case pickFrame:
		return append(appendNum(dst, f.Num), f.Bits...)
	case goneFrame:
		return appendWords(dst, f.Shorts)
	case ackFrame:
		return appendAck(dst, f)
	case abortFrame:
		return appendNum(dst, f.Num)
	case partialFrame:
		for _, p := range f.Items {
			dst = appendNum(append(dst, p.ID[:]...), uint64(p.Have))
		}
		return dst
	case queryFrame:
		return appendQuery(dst, f.Query, f.Tag, f.Hops)
	case pathFrame:
		return appendQuery(dst, f.Query, f.Tag, f.Hops)
	case symbolsFrame:
		dst = appendNum(append(dst, byte(f.Scope)), uint64(f.Start))
		dst = appendNum(dst, f.Total)
		return reconcile.AppendSymbols(dst, f.Start, f.Total, f.Symbols)
	case offerFrame:
		return appendOffer(dst, f)
	case dataFrame:
		return appendNum(appendNum(dst, f.Num), uint64(f.Offset))
	}
	return appendBlobFrame(dst, f)
}

func appendBlobFrame(dst []byte, f Frame) []byte {
	switch f := f.(type) {
	case blobAskFrame:
		for _, r := range f.Roots {
			dst = append(dst, r[:]...)
		}
	case blobHaveFrame:
		dst = append(dst, f.Root[:]...)
		dst = append(appendNum(dst, f.Length), f.Stretch...)
	case blobWantFrame:
		dst = append(appendNum(dst, f.Pull), f.Root[:]...)
		dst = appendNum(appendNum(dst, uint64(f.First)), uint64(f.Count))
		dst = append(appendNum(dst, uint64(f.Offset)), bitIf(f.Proof, 1))
	case blobEndFrame:
		dst = appendNum(dst, f.Pull)
	case proofFrame:
		dst = appendNum(appendNum(dst, f.Pull), uint64(f.Group))
	case leafFrame:
		dst = appendNum(appendNum(dst, f.Pull), uint64(f.Leaf))
		dst = appendNum(dst, uint64(f.Offset))
	}
	return dst
}

func bitIf(on bool, bit byte) byte {
	if on {
		return bit
	}
	return 0
}

func appendState(dst []byte, f stateFrame) []byte {
	dst = append(dst, f.Min, f.Max)
	dst = appendPart(dst, f.Heads)
	dst = appendNum(dst, f.Features)
	dst = appendNum(dst, f.Generation)
	dst = appendNum(append(dst, f.Epoch[:]...), f.Seq)
	dst = appendNum(append(dst, f.KnownEpoch[:]...), f.KnownSeq)
	dst = appendNum(dst, f.KnownSpray)
	dst = append(dst, f.Root[:]...)
	dst = appendNum(dst, f.FreeKiB)
	return appendNum(dst, f.AckEvery)
}

func appendTags(dst []byte, f tagsFrame) []byte {
	dst = append(dst, bitIf(f.Replace, 1)|bitIf(f.All, 2)|bitIf(f.Archive, 4))
	for _, set := range [][]uint32{f.Add, f.Remove} {
		dst = appendNum(dst, uint64(len(set)))
		dst = appendPart(dst, reconcile.AppendRice(nil, set))
	}
	return dst
}

// appendAck writes each run as the gap to the end of the run before it, its
// length, and its code.
func appendAck(dst []byte, f ackFrame) []byte {
	dst = appendNum(dst, f.Got)
	next := uint64(0)
	for _, r := range f.Runs {
		dst = appendNum(appendNum(dst, r.First-next), r.Count)
		dst = append(dst, byte(r.Code))
		next = r.First + r.Count
	}
	return dst
}

func appendQuery(dst []byte, query uint64, tag [8]byte, hops uint8) []byte {
	dst = binary.BigEndian.AppendUint64(dst, query)
	return append(append(dst, tag[:]...), hops)
}

func appendOffer(dst []byte, f offerFrame) []byte {
	wide := len(f.IDs) > 0
	dst = appendNum(dst, f.Num)
	dst = append(dst, bitIf(wide, 1)|bitIf(f.Last, 2)|bitIf(f.Spray, 4)|bitIf(f.List, 8), byte(f.Scope))
	dst = appendNum(dst, f.Upto)
	if !wide {
		return appendWords(dst, f.Shorts)
	}
	for _, id := range f.IDs {
		dst = append(dst, id[:]...)
	}
	return dst
}

// appendTransfer makes the part of BUNDLE (begin false) or BEGIN in front of
// the payload bytes. Both are hop part and header with their lengths, as in a
// stored bundle; BUNDLE goes on with the payload's length and the payload,
// BEGIN with payload hash, payload length and offset.
func appendTransfer(dst []byte, begin bool, h transferHead, offset int) []byte {
	kind := byte(typeBundle)
	if begin {
		kind = typeBegin
	}
	dst = appendNum(append(dst, kind), h.Num)
	dst = appendPart(dst, h.Hop.Append(nil))
	dst = appendPart(dst, h.Header.Raw())
	if begin {
		dst = append(dst, h.PayloadHash[:]...)
	}
	dst = appendNum(dst, uint64(h.Size))
	if begin {
		dst = appendNum(dst, uint64(offset))
	}
	return dst
}
