package celauthz

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// Bounds of the expressions.
const (
	// maxExpressionSize bounds the text of one expression, in code points.
	maxExpressionSize = 64 << 10
	// costLimit bounds the work of one evaluation, in CEL cost units: about
	// ten milliseconds, and ten thousand times what an ordinary rule takes.
	costLimit = 100_000
	// interruptEvery is how many steps of a loop pass between two looks at
	// the deadline.
	interruptEvery = 100
)

// reads is a set of the things an expression depends on.
type reads uint16

// What a question can leave open. Everything else (claims, request, time) is
// always known.
const (
	readsMethod reads = 1 << iota
	readsArguments
	readsTool
	readsPrompt
	readsResource
	readsTask
	// readsNow is never open, but the same question has another answer
	// later.
	readsNow
	// readsCaller is who asks, and how: known, except in a replay.
	readsCaller
	// readsRequest is what the headers of the request say, which no bound
	// of a message or token holds for.
	readsRequest
	// readsSource is where the request comes from.
	readsSource
	// readsName is the name of the target, which tells the entries of a
	// list apart.
	readsName

	readsTarget = readsTool | readsPrompt | readsResource | readsTask
	// leftOpen is what some question leaves open.
	leftOpen = readsMethod | readsArguments | readsTarget
)

// kindReads is the bit of a kind of target.
func kindReads(kind mcpwire.TargetKind) reads {
	switch kind {
	case mcpwire.Tool:
		return readsTool
	case mcpwire.Prompt:
		return readsPrompt
	case mcpwire.Resource:
		return readsResource
	case mcpwire.Task:
		return readsTask
	default:
		return 0
	}
}

// variable is one name an expression may use. Names are declared with their
// dots, so that a misspelt field does not compile.
type variable struct {
	name string
	typ  *cel.Type
	// dependsOn is what an expression with it depends on.
	dependsOn reads
}

var variables = []variable{
	{"jwt", cel.MapType(cel.StringType, cel.DynType), readsCaller},
	{"scopes", cel.ListType(cel.StringType), readsCaller},
	{"mcp.method", cel.StringType, readsMethod},
	{"mcp.version", cel.StringType, readsCaller | readsRequest},
	{"mcp.tool.name", cel.StringType, readsTool | readsName},
	{"mcp.tool.target", cel.StringType, readsTool},
	{"mcp.tool.arguments", cel.MapType(cel.StringType, cel.DynType), readsTool | readsArguments},
	{"mcp.prompt.name", cel.StringType, readsPrompt | readsName},
	{"mcp.prompt.target", cel.StringType, readsPrompt},
	{"mcp.prompt.arguments", cel.MapType(cel.StringType, cel.DynType), readsPrompt | readsArguments},
	{"mcp.resource.uri", cel.StringType, readsResource | readsName},
	{"mcp.resource.name", cel.StringType, readsResource | readsName},
	{"mcp.resource.target", cel.StringType, readsResource},
	{"mcp.task.id", cel.StringType, readsTask | readsName},
	{"mcp.task.name", cel.StringType, readsTask | readsName},
	{"mcp.task.target", cel.StringType, readsTask},
	{"request.method", cel.StringType, readsCaller | readsRequest},
	{"request.scheme", cel.StringType, readsCaller | readsRequest},
	{"request.host", cel.StringType, readsCaller | readsRequest},
	{"request.path", cel.StringType, readsCaller | readsRequest},
	{"request.uri", cel.StringType, readsCaller | readsRequest},
	{"request.query", cel.MapType(cel.StringType, cel.ListType(cel.StringType)), readsCaller | readsRequest},
	{"request.headers", cel.MapType(cel.StringType, cel.StringType), readsCaller | readsRequest},
	{"source.address", cel.StringType, readsCaller | readsSource},
	{"source.port", cel.IntType, readsCaller | readsSource},
	{"now", cel.TimestampType, readsNow},
}

// dependencies maps variable names to what they stand for.
var dependencies = func() map[string]reads {
	m := make(map[string]reads, len(variables))
	for _, v := range variables {
		m[v.name] = v.dependsOn
	}
	return m
}()

// Patterns of what a question leaves open, for partial evaluation. They are
// shared and never changed.
var (
	openArguments = map[mcpwire.TargetKind][]*cel.AttributePatternType{
		mcpwire.Tool:   {cel.AttributePattern("mcp.tool.arguments")},
		mcpwire.Prompt: {cel.AttributePattern("mcp.prompt.arguments")},
	}
	openTargets          = patterns(readsTarget)
	openTargetsAndMethod = patterns(readsTarget | readsMethod)
)

func patterns(open reads) []*cel.AttributePatternType {
	var list []*cel.AttributePatternType
	for _, v := range variables {
		if v.dependsOn&open != 0 {
			list = append(list, cel.AttributePattern(v.name))
		}
	}
	return list
}

// environment is the CEL environment of all rules. It holds declarations
// only and never changes, so every configuration uses the same one.
var environment = sync.OnceValues(func() (*cel.Env, error) { return newEnvironment() })

// leanEnvironment lacks the one function whose cost, which it brings itself,
// makes each program of the environment keep a table of the costs of all
// functions: half the memory of a rule.
var leanEnvironment = sync.OnceValues(func() (*cel.Env, error) { return newEnvironment(cel.OptionalTypesVersion(2)) })

// hasOptionalValue is that function, hasValue with an argument.
const hasOptionalValue = "optional_hasValue_value"

// planningEnvironment is the one for the programs of an expression.
func planningEnvironment(checked *celast.AST) (*cel.Env, error) {
	for _, reference := range checked.ReferenceMap() {
		if slices.Contains(reference.OverloadIDs, hasOptionalValue) {
			return environment()
		}
	}
	return leanEnvironment()
}

func newEnvironment(optionals ...cel.OptionalTypesOption) (*cel.Env, error) {
	options := []cel.EnvOption{
		cel.CustomTypeAdapter(outsideContainers),
		cel.ParserExpressionSizeLimit(maxExpressionSize),
		cel.EnableMacroCallTracking(), // so that a part can be shown as it was written
		cel.CrossTypeNumericComparisons(true),
		cel.OptionalTypes(optionals...),
		ext.Strings(),
		ext.Lists(),
		ext.Sets(),
		ext.Math(),
		ext.Encoders(),
		ext.Regex(),
		ext.Network(),
	}
	for _, v := range variables {
		options = append(options, cel.Variable(v.name, v.typ))
	}
	return cel.NewEnv(options...)
}

// jsonAdapter brings decoded JSON into CEL without copying it. A number that
// cannot be held exactly becomes an error where it is read.
type jsonAdapter struct {
	types.Adapter
	// inside a list or a map
	inside bool
}

var (
	outsideContainers = &jsonAdapter{types.DefaultTypeAdapter, false}
	insideContainers  = &jsonAdapter{types.DefaultTypeAdapter, true}
)

// NativeToValue implements types.Adapter.
func (a *jsonAdapter) NativeToValue(value any) ref.Val {
	switch v := value.(type) {
	case mcpwire.InexactNumber, inexact:
		if a.inside {
			return inexact{}
		}
		return types.WrapErr(errInexact)
	case map[string]any:
		return types.NewStringInterfaceMap(insideContainers, v)
	case []any:
		return types.NewDynamicList(insideContainers, v)
	case *types.Optional:
		if v.HasValue() && types.IsError(v.GetValue()) {
			return v.GetValue()
		}
		return v
	default:
		return a.Adapter.NativeToValue(value)
	}
}

var errInexact = errors.New("the number cannot be held exactly")

// inexact stands for such a number inside a list or a map, until it is read
// itself. It equals nothing. An error in its place would make whole lists and
// maps equal: the library compares their elements and looks for a false only.
type inexact struct{}

var inexactType = types.NewOpaqueType("inexact_number")

// ConvertToNative implements ref.Val.
func (inexact) ConvertToNative(reflect.Type) (any, error) { return nil, errInexact }

// ConvertToType implements ref.Val.
func (inexact) ConvertToType(ref.Type) ref.Val { return types.WrapErr(errInexact) }

// Equal implements ref.Val.
func (inexact) Equal(ref.Val) ref.Val { return types.False }

// Type implements ref.Val.
func (inexact) Type() ref.Type { return inexactType }

// Value implements ref.Val.
func (inexact) Value() any { return inexact{} }

// compileError is one thing wrong with an expression.
type compileError struct {
	line, column int
	message      string
}

func (e compileError) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.line, e.column, e.message)
}

// compile parses and checks an expression, which must be boolean as far as
// that can be known.
func compile(expression string) (*cel.Ast, error) {
	env, err := environment()
	if err != nil {
		return nil, err
	}
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		return nil, explainIssues(expression, issues)
	}
	if t := ast.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, compileError{1, 1, fmt.Sprintf("must be true or false, but is %s", t)}
	}
	return ast, nil
}

func explainIssues(expression string, issues *cel.Issues) error {
	var list []error
	for _, issue := range issues.Errors() {
		// the library has no column for the end of an empty expression
		line, column := issue.Location.Line(), max(issue.Location.Column()+1, 1)
		list = append(list, compileError{line, column, explainMessage(expression, issue.Message, line, column)})
	}
	if len(list) == 0 {
		return issues.Err()
	}
	return errors.Join(list...)
}

var (
	undeclared = regexp.MustCompile(`^undeclared reference to '([a-z]+)'`)
	dottedName = regexp.MustCompile(`^[\p{L}_][\p{L}\p{N}_]*(?:\.[\p{L}_][\p{L}\p{N}_]*)*`)
)

// explainMessage names the fields there are when one was misspelt: the
// library only sees that their common root is not a variable.
func explainMessage(expression, message string, line, column int) string {
	match := undeclared.FindStringSubmatch(message)
	if match == nil {
		return message
	}
	root := match[1]
	var fields []string
	for _, v := range variables {
		if strings.HasPrefix(v.name, root+".") {
			fields = append(fields, v.name)
		}
	}
	written := root
	if lines := strings.Split(expression, "\n"); line >= 1 && line <= len(lines) {
		// columns count code points
		if text := []rune(lines[line-1]); column >= 1 && column <= len(text) {
			if name := dottedName.FindString(string(text[column-1:])); strings.HasPrefix(name+".", root+".") {
				written = name
			}
		}
	}
	if len(fields) == 0 {
		return fmt.Sprintf("undeclared reference to %q", written)
	}
	return fmt.Sprintf("undeclared reference to %q; there are %s", written, strings.Join(fields, ", "))
}
