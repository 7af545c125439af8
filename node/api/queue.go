package api

import (
	"context"
	"sync"
)

// queues lets so many at once through for each account, the others in turn. The
// zero value is ready.
type queues struct {
	mu sync.Mutex
	at map[uint32]*queue // accounts that have somebody inside or waiting
}

type queue struct {
	places chan struct{}
	users  int // inside and waiting
}

// enter waits for a place of an account. The function it returns gives the
// place back.
func (q *queues) enter(ctx context.Context, account uint32, most int) (leave func(), err error) {
	q.mu.Lock()
	if q.at == nil {
		q.at = map[uint32]*queue{}
	}
	mine := q.at[account]
	if mine == nil {
		mine = &queue{places: make(chan struct{}, most)}
		q.at[account] = mine
	}
	mine.users++
	q.mu.Unlock()
	select {
	case mine.places <- struct{}{}:
		return func() {
			<-mine.places
			q.gone(account, mine)
		}, nil
	case <-ctx.Done():
		q.gone(account, mine)
		return nil, ctx.Err()
	}
}

func (q *queues) gone(account uint32, mine *queue) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if mine.users--; mine.users == 0 {
		delete(q.at, account)
	}
}
