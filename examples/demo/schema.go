package demo

import (
	"fmt"

	"github.com/google/jsonschema-go/jsonschema"
)

// repoPattern is what a repository is called: owner/name. The length bounds
// keep the store small.
const repoPattern = `^[A-Za-z0-9._-]{1,64}/[A-Za-z0-9._-]{1,64}$`

// maxDescription bounds the other text of a repository that callers choose.
const maxDescription = 200

// schemaOf is the schema of T, with what its Go types cannot say added by
// edit, which gets the schemas of T's properties.
func schemaOf[T any](edit func(properties map[string]*jsonschema.Schema)) *jsonschema.Schema {
	schema, err := jsonschema.For[T](nil)
	if err != nil {
		// T is one of this package's own types: a mistake in the program.
		panic(fmt.Sprintf("demo: schema of %T: %v", *new(T), err))
	}
	edit(schema.Properties)
	return schema
}
