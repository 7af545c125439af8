package store

// WithoutSync returns o so that nothing is synced, for the negative controls
// of the tests of durability.
func WithoutSync(o Options) Options {
	o.noSync = true
	return o
}

// ReuseVaultKeys makes a vault write every page under one key, for the
// negative control of the test of shredding.
func ReuseVaultKeys(v *Vault) {
	v.newKey = func() [32]byte { return [32]byte{0xbe, 0xef} }
}

// Anchors is the number of slots of an anchor file that hold an anchor.
func Anchors(file []byte, kek [32]byte) (n int) {
	for _, a := range anchors(file, kek) {
		if a.root.page != 0 {
			n++
		}
	}
	return n
}

func anchors(file []byte, kek [32]byte) (out [2]anchor) {
	for i := range out {
		if a, err := openAnchor(file[i*anchorStride:][:anchorSlot], kek); err == nil {
			out[i] = a
		}
	}
	return out
}

// AttackVault returns every value that can be read by trying every key that
// can be found on every page that was ever written, beginning with the newest
// anchor in the file.
func AttackVault(file []byte, kek [32]byte, pages [][]byte) map[string]bool {
	a := anchors(file, kek)
	best := a[0]
	if a[1].generation > best.generation {
		best = a[1]
	}
	values := make(map[string]bool)
	tried := make(map[[32]byte]bool)
	queue := [][32]byte{best.root.key}
	for len(queue) > 0 {
		key := queue[0]
		queue = queue[1:]
		if tried[key] {
			continue
		}
		tried[key] = true
		for _, page := range pages {
			queue = append(queue, attackPage(key, best.vault, page, values)...)
		}
	}
	return values
}

// attackPage tries one key on one page and returns the keys it finds there.
func attackPage(key [32]byte, vault [16]byte, page []byte, values map[string]bool) (keys [][32]byte) {
	for _, kind := range []pageKind{kindRoot, kindIndex} {
		plain, err := openPage(key, vault, kind, page)
		if err != nil {
			continue
		}
		if children, err := parseChildren(kind, plain); err == nil {
			for _, c := range children {
				if c.page != 0 {
					keys = append(keys, c.key)
				}
			}
		}
	}
	if plain, err := openPage(key, vault, kindLeaf, page); err == nil {
		if l, err := parseLeaf(plain); err == nil {
			for _, s := range l.slots {
				if s.used {
					values[string(s.value)] = true
				}
			}
		}
	}
	return keys
}

// OpenBlobs opens blobs without the rest of a store.
func OpenBlobs(dir string, o Options) (*Blobs, error) {
	o = o.withDefaults()
	return openBlobs(o.FS, dir, o)
}

// CloseBlobs closes what OpenBlobs opened.
func CloseBlobs(b *Blobs) error { return b.close() }

// OpenBlobFiles is the number of blobs whose files are open.
func OpenBlobFiles(b *Blobs) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, info := range b.known {
		if info.file != nil {
			n++
		}
	}
	return n
}
