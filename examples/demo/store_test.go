package demo

import (
	"errors"
	"fmt"
	"sync"
	"testing"
)

func TestStoreIsBounded(t *testing.T) {
	s := newStore()
	var wg sync.WaitGroup
	for i := range 2 * maxRepos {
		wg.Go(func() {
			if err := s.create(Repo{Name: fmt.Sprintf("acme/%d", i)}); err != nil && !errors.Is(err, errFull) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := len(s.list("")); got != maxRepos {
		t.Errorf("%d repositories, want %d", got, maxRepos)
	}
}

func TestStoresAreApart(t *testing.T) {
	first, second := newStore(), newStore()
	if err := first.delete("acme/api"); err != nil {
		t.Fatal(err)
	}
	if _, err := second.get("acme/api"); err != nil {
		t.Error(err)
	}
}
