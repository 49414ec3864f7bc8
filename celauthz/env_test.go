package celauthz

import (
	"slices"
	"testing"
)

// TestLeanEnvironment: the environment for planning has every function but
// one, whatever version of the library there is.
func TestLeanEnvironment(t *testing.T) {
	full, err := environment()
	if err != nil {
		t.Fatal(err)
	}
	lean, err := leanEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	var missing []string
	for name, function := range full.Functions() {
		var known []string
		if same := lean.Functions()[name]; same != nil {
			for _, overload := range same.OverloadDecls() {
				known = append(known, overload.ID())
			}
		}
		for _, overload := range function.OverloadDecls() {
			if !slices.Contains(known, overload.ID()) {
				missing = append(missing, overload.ID())
			}
		}
	}
	if len(missing) != 1 || missing[0] != hasOptionalValue {
		t.Errorf("it lacks %q of %d functions", missing, len(full.Functions()))
	}
}
