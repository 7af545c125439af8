package routing

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"outrider/mesh/bundle"
)

func TestScopeDrawsTheLineAtFloodMax(t *testing.T) {
	h := bundle.Header{Precedence: bundle.Priority, Kind: bundle.KindMessage}
	for _, c := range []struct {
		size  int
		flood bool
		want  Scope
	}{{FloodMax, false, FloodPriority}, {FloodMax + 1, false, Spray}, {FloodMax + 1, true, FloodPriority}} {
		if got := ScopeOf(h, c.size, c.flood); got != c.want {
			t.Errorf("%d bytes, opsec %v: scope %d, want %d", c.size, c.flood, got, c.want)
		}
	}
	h.Kind = bundle.KindControl
	if got := ScopeOf(h, bundle.MaxPayload, false); got != Control {
		t.Errorf("large control object in scope %d", got)
	}
}

func TestSplitNeverMakesReplicas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		budget := rapid.Uint8Range(0, bundle.MaxBudget).Draw(t, "budget")
		p := Standing{Reads: rapid.Bool().Draw(t, "reads"), OnPath: rapid.Bool().Draw(t, "path")}
		give, keep, ok := Split(budget, p)
		switch {
		case !ok && (give != 0 || keep != budget):
			t.Fatalf("refused, but %d of %d kept", keep, budget)
		case ok && give == 0:
			t.Fatal("gave a copy without a budget")
		case ok && p.Reads && (give != 1 || keep != budget):
			t.Fatalf("a reader got %d and left %d of %d", give, keep, budget)
		case ok && !p.Reads && give+keep != budget:
			t.Fatalf("%d + %d replicas from %d", give, keep, budget)
		}
		if !p.Reads && !p.OnPath && budget == 1 && ok {
			t.Fatal("the last replica went to nobody in particular")
		}
	})
}

func TestRankOrder(t *testing.T) {
	hour := time.Hour
	order := []uint64{
		Rank(true, true, 80, hour, 9),
		Rank(true, false, 4000, hour, 1),
		Rank(false, true, 80, hour, 9),
		Rank(false, false, 300, time.Minute, 9),
		Rank(false, false, 300, hour, 1),
		Rank(false, false, 300, hour, 2),
		Rank(false, false, 4000, time.Minute, 1),
		Rank(false, false, 60000, time.Minute, 1),
	}
	for i := 1; i < len(order); i++ {
		if order[i-1] >= order[i] {
			t.Errorf("rank %d is not before rank %d", i-1, i)
		}
	}
}

func TestLevels(t *testing.T) {
	if LevelOf(bundle.Routine, true) <= LevelOf(bundle.Flash, false) || LevelOf(bundle.Routine, true) >= LevelOf(bundle.Immediate, false) {
		t.Error("revocations go right behind FLASH")
	}
	if LevelOf(bundle.Flash, true) != LevelFlash || LevelOf(bundle.Routine, false) != LevelRoutine || LevelOf(bundle.Priority, false) != LevelPriority {
		t.Error("level does not follow precedence")
	}
}

func TestCopiesStayWithinTheProtocol(t *testing.T) {
	last := uint8(bundle.MaxBudget)
	for size := FloodMax + 1; size <= bundle.MaxPayload; size += 512 {
		n := Copies(size)
		if n < 4 || n > bundle.MaxBudget || n > last {
			t.Fatalf("%d copies for %d bytes after %d", n, size, last)
		}
		last = n
	}
}

func TestPushOrOffer(t *testing.T) {
	for _, c := range []struct {
		name             string
		prec             bundle.Precedence
		purge, forPeer   bool
		size, neighbours int
		full, want       bool
	}{
		{"flash in a crowd", bundle.Flash, false, false, 4000, 30, false, true},
		{"routine to the one neighbour", bundle.Routine, false, false, 4000, 1, false, true},
		{"routine in a crowd", bundle.Routine, false, false, 600, 30, false, false},
		{"purge in a crowd", bundle.Routine, true, false, 90, 30, false, true},
		{"to its reader", bundle.Routine, false, true, 60000, 30, false, true},
		{"to a full relay", bundle.Flash, false, false, 100, 1, true, false},
		{"to a full reader", bundle.Routine, false, true, 100, 1, true, true},
	} {
		if got := Push(c.prec, c.purge, c.forPeer, c.size, c.neighbours, c.full); got != c.want {
			t.Errorf("%s: push %v, want %v", c.name, got, c.want)
		}
	}
}

func TestBatchesAndCaps(t *testing.T) {
	if FirstBatch(100, 100, 2000) != 16 || FirstBatch(1000, 0, 2000) != 1500 || FirstBatch(5000, 0, 2000) != 2000 {
		t.Error("first batch does not follow the counts")
	}
	if NextBatch(0, 100) != 8 || NextBatch(100, 100) != 50 || NextBatch(1000, 100) != 100 {
		t.Error("next batch is not half of what is there, within limits")
	}
	if SymbolCap(10_000, 0, 1<<16) != 0 {
		t.Error("an empty peer must get the list")
	}
	if got := SymbolCap(100_000, 100_010, 1<<16); got != 800_000/symbolBytes {
		t.Errorf("cap %d", got)
	}
	if SymbolCap(1<<40, 1<<40, 1<<16) != 1<<16 {
		t.Error("cap above the limit")
	}
	if !UseCursor(cursorLimit) || UseCursor(cursorLimit+1) {
		t.Error("cursor limit is not where it is stated")
	}
}
