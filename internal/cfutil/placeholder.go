package cfutil

import (
	"fmt"
	"regexp"

	"github.com/caddyserver/caddy/v2"
)

// loadTimePlaceholder matches what is replaced when a configuration loads.
// Every other brace stays as it is: CEL and JSON use them too.
var loadTimePlaceholder = regexp.MustCompile(`\{(?:env|file)\.[^{}\s]+\}`)

// HasPlaceholder reports whether Expand would change text.
func HasPlaceholder(text string) bool { return loadTimePlaceholder.MatchString(text) }

// Expand replaces {env.X} and {file.X} in each text. One that is empty or
// cannot be read is an error: a rule or a key that silently became nothing
// would change what is allowed.
func Expand(texts ...*string) error {
	repl := caddy.NewReplacer()
	for _, text := range texts {
		var failed string
		*text = loadTimePlaceholder.ReplaceAllStringFunc(*text, func(placeholder string) string {
			value, _ := repl.GetString(placeholder[1 : len(placeholder)-1])
			if value == "" && failed == "" {
				failed = placeholder
			}
			return value
		})
		if failed != "" {
			return fmt.Errorf("placeholder %s is empty", failed)
		}
	}
	return nil
}

// ExpandAll is Expand for every element of each list.
func ExpandAll(lists ...[]string) error {
	for _, list := range lists {
		for i := range list {
			if err := Expand(&list[i]); err != nil {
				return err
			}
		}
	}
	return nil
}
