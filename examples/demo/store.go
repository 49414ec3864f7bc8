package demo

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// maxRepos bounds the store: whoever reaches the server may create
// repositories, and nothing but delete_repo ever removes one.
const maxRepos = 100

var (
	errExists   = errors.New("already exists")
	errNotFound = errors.New("not found")
	errFull     = fmt.Errorf("there are %d repositories already, delete one first", maxRepos)
)

// Repo is one repository of the store.
type Repo struct {
	Name        string `json:"name" jsonschema:"the repository as owner/name"`
	Description string `json:"description,omitempty" jsonschema:"what it is for"`
}

// owner is the part of the name before the slash.
func (r Repo) owner() string {
	owner, _, _ := strings.Cut(r.Name, "/")
	return owner
}

// short is the part of the name after the slash.
func (r Repo) short() string {
	_, short, _ := strings.Cut(r.Name, "/")
	return short
}

// full is the whole name, owner/name.
func (r Repo) full() string { return r.Name }

// store holds repositories in memory. It is safe for concurrent use.
type store struct {
	mu    sync.Mutex
	repos map[string]Repo
}

func newStore() *store {
	s := &store{repos: make(map[string]Repo)}
	for _, repo := range []Repo{
		{Name: "acme/api", Description: "The public API of Acme"},
		{Name: "acme/website", Description: "The website of Acme"},
		{Name: "globex/rocket", Description: "A rocket"},
		{Name: "globex/secret-plans", Description: "Nobody but Globex should see this"},
	} {
		s.repos[repo.Name] = repo
	}
	return s
}

// list returns the repositories of one owner, or all of them when owner is
// empty, ordered by name.
func (s *store) list(owner string) []Repo {
	s.mu.Lock()
	defer s.mu.Unlock()
	repos := make([]Repo, 0, len(s.repos))
	for _, name := range slices.Sorted(maps.Keys(s.repos)) {
		if repo := s.repos[name]; owner == "" || repo.owner() == owner {
			repos = append(repos, repo)
		}
	}
	return repos
}

func (s *store) get(name string) (Repo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	repo, ok := s.repos[name]
	if !ok {
		return Repo{}, fmt.Errorf("%s: %w", name, errNotFound)
	}
	return repo, nil
}

func (s *store) create(repo Repo) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.repos[repo.Name]; ok {
		return fmt.Errorf("%s: %w", repo.Name, errExists)
	}
	if len(s.repos) >= maxRepos {
		return errFull
	}
	s.repos[repo.Name] = repo
	return nil
}

func (s *store) delete(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.repos[name]; !ok {
		return fmt.Errorf("%s: %w", name, errNotFound)
	}
	delete(s.repos, name)
	return nil
}
