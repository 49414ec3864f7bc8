package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v3"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// maxYAML bounds what aliases may make of a YAML document, in bytes of JSON.
const maxYAML = 16 << 20

// yamlFile is a YAML document as JSON, and where its values stand.
type yamlFile struct {
	name string
	root *yaml.Node
	json []byte
}

// readYAML reads one document. It takes only what has a meaning in JSON:
// no duplicate keys, keys that are strings, no infinite numbers.
func readYAML(name string, text []byte) (*yamlFile, error) {
	f := &yamlFile{name: name, root: new(yaml.Node)}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(f.root); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("is empty")
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: holds more than one document", name)
	}
	if err := f.write(f.root, 0); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *yamlFile) at(n *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %w", f.name, n.Line, fmt.Errorf(format, args...))
}

// write appends a node as JSON.
func (f *yamlFile) write(n *yaml.Node, depth int) error {
	if depth > mcpwire.MaxDepth || len(f.json) > maxYAML {
		return f.at(n, "too large or nested too deeply")
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return f.write(n.Content[0], depth)
	case yaml.AliasNode:
		return f.write(n.Alias, depth+1)
	case yaml.MappingNode:
		return f.writeMapping(n, depth)
	case yaml.SequenceNode:
		f.json = append(f.json, '[')
		for i, element := range n.Content {
			if i > 0 {
				f.json = append(f.json, ',')
			}
			if err := f.write(element, depth+1); err != nil {
				return err
			}
		}
		f.json = append(f.json, ']')
		return nil
	default:
		return f.writeScalar(n)
	}
}

func (f *yamlFile) writeMapping(n *yaml.Node, depth int) error {
	seen := make(map[string]bool)
	f.json = append(f.json, '{')
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str":
			return f.at(key, "the key %s must be a string: put it into quotes", key.Value)
		case seen[key.Value]:
			return f.at(key, "the key %q is there twice", key.Value)
		}
		seen[key.Value] = true
		if i > 0 {
			f.json = append(f.json, ',')
		}
		f.json = append(mcpwire.Quote(f.json, key.Value), ':')
		if err := f.write(value, depth+1); err != nil {
			return err
		}
	}
	f.json = append(f.json, '}')
	return nil
}

func (f *yamlFile) writeScalar(n *yaml.Node) error {
	switch n.ShortTag() {
	case "!!str", "!!timestamp":
		f.json = mcpwire.Quote(f.json, n.Value)
	case "!!null":
		f.json = append(f.json, "null"...)
	case "!!bool":
		var b bool
		if err := n.Decode(&b); err != nil {
			return f.at(n, "%w", err)
		}
		f.json = strconv.AppendBool(f.json, b)
	case "!!int", "!!float":
		return f.writeNumber(n)
	default:
		return f.at(n, "the tag %s has no meaning here", n.ShortTag())
	}
	return nil
}

// writeNumber keeps a number as it was written, if JSON writes it alike.
func (f *yamlFile) writeNumber(n *yaml.Node) error {
	if value := jsontext.Value(n.Value); value.Kind() == '0' && value.IsValid() {
		f.json = append(f.json, n.Value...)
		return nil
	}
	if n.ShortTag() == "!!int" {
		var integer int64
		if err := n.Decode(&integer); err != nil {
			return f.at(n, "%s is not an integer of 64 bits", n.Value)
		}
		f.json = strconv.AppendInt(f.json, integer, 10)
		return nil
	}
	var number float64
	if err := n.Decode(&number); err != nil || math.IsInf(number, 0) || math.IsNaN(number) {
		return f.at(n, "%s is not a number that JSON has", n.Value)
	}
	f.json = strconv.AppendFloat(f.json, number, 'g', -1, 64)
	return nil
}

// kindNames are the types of members in words.
var kindNames = map[reflect.Kind]string{
	reflect.String: "a text", reflect.Slice: "a list", reflect.Map: "a mapping", reflect.Struct: "a mapping",
}

// decode reads the document into a struct, all members of which must be
// known.
func (f *yamlFile) decode(into any) error {
	err := json.Unmarshal(f.json, into, json.RejectUnknownMembers(true))
	var semantic *json.SemanticError
	if !errors.As(err, &semantic) {
		return err
	}
	pointer := string(semantic.JSONPointer)
	why := "must be " + kindNames[semantic.GoType.Kind()]
	switch {
	case errors.Is(err, json.ErrUnknownName):
		why = "is not known"
	case semantic.Err != nil:
		why = semantic.Err.Error()
	case kindNames[semantic.GoType.Kind()] == "":
		why = "does not belong here"
	}
	return fmt.Errorf("%s:%d: %s %s", f.name, f.line(pointer), strings.TrimPrefix(pointer, "/"), why)
}

// line finds the line of a value by its JSON pointer.
func (f *yamlFile) line(pointer string) int {
	n := f.root.Content[0]
	for token := range jsontext.Pointer(pointer).Tokens() {
		for n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		next := n
		switch n.Kind {
		case yaml.SequenceNode:
			if i, err := strconv.Atoi(token); err == nil && i < len(n.Content) {
				next = n.Content[i]
			}
		case yaml.MappingNode:
			for i := 0; i < len(n.Content); i += 2 {
				if n.Content[i].Value == token {
					next = n.Content[i+1]
					if next.Kind == yaml.AliasNode {
						return next.Line
					}
				}
			}
		}
		n = next
	}
	return n.Line
}
