package docs_test

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// bounds says which constants of the code stand in each row of the table of
// docs/security.md, in the order in which they stand there.
var bounds = map[string][]string{
	"token":              {"jwtauth.defaultMaxTokenSize", "jwtauth.maxMaxTokenSize"},
	"clock difference":   {"jwtauth.defaultLeeway", "jwtauth.maxLeeway"},
	"key set":            {"jwtauth.maxKeySetSize", "jwtauth.maxKeys"},
	"RSA key":            {"jwtauth.minRSABits", "jwtauth.maxRSABits", "jwtauth.maxRSAExponent"},
	"`kid` in an answer": {"jwtauth.maxQuotedKeyID"},
	"headers of one preflight that a tool defines": {"jwtauth.maxCORSParams"},
	"one fetch of keys":                            {"jwtauth.fetchTimeout"},
	"fetched keys":                                 {"jwtauth.minFreshness", "jwtauth.maxFreshness", "jwtauth.defaultMaxStale", "jwtauth.maxMaxStale"},
	"fetches for unknown `kid`s":                   {"jwtauth.fetchCooldown", "jwtauth.maxWaiting", "jwtauth.unknownKeyWait"},
	"wait for the first keys":                      {"jwtauth.firstKeysWait"},
	"cache of verified tokens":                     {"jwtauth.defaultCacheEntries", "jwtauth.maxCacheEntries", "jwtauth.cacheEntrySize"},
	"request body":                                 {"celauthz.defaultMaxBody", "celauthz.maxSize", "internal/slowbody.Timeout"},
	"body that no `mcp_authorize` has read":        {"mcpproxy.maxHeldBody", "internal/slowbody.Timeout"},
	"rest of a body when the request is refused":   {"internal/slowbody.Timeout"},
	"nesting of JSON":                              {"internal/mcpwire.MaxDepth"},
	"batch":                                        {"internal/mcpwire.MaxBatch"},
	"one `subscriptions/listen`":                   {"internal/mcpwire.maxSubscriptions"},
	"answer with a list, event of SSE":             {"celauthz.defaultMaxEvent", "celauthz.maxSize"},
	"entries of a list":                            {"internal/mcpwire.maxListEntries"},
	"batch in an answer":                           {"internal/mcpwire.maxResponseBatch"},
	"expression":                                   {"celauthz.maxExpressionSize"},
	"one evaluation":                               {"celauthz.costLimit"},
	"all rules for one question":                   {"celauthz.decisionDeadline"},
	"`Mcp-Session-Id` of a client":                 {"mcpproxy.maxSealedID"},
	"`Mcp-Session-Id` of a server":                 {"mcpproxy.maxUpstreamID", "mcpproxy.maxReplica"},
	"session key":                                  {"mcpproxy.minKeySize"},
	"reading the session key":                      {"mcpproxy.keyTimeout", "mcpproxy.keyCooldown"},
	"lines of an event that are not its data":      {"internal/mcpwire.maxEventFields"},
	"handlers with rules that remember which of them a token can use": {"celauthz.maxGates"},
	"event on a GET stream":                              {"mcpproxy.maxStreamEvent"},
	"endpoint of a 2024-11-05 server":                    {"mcpproxy.maxEndpoint"},
	"stream beyond its token or its configuration":       {"mcpproxy.endSpread", "mcpproxy.sweepInterval"},
	"client that does not read a stream which has ended": {"mcpproxy.lastWriteTimeout"},
	"text of a client in a log line or a span":           {"internal/cfutil.maxLoggedText"},
	"audit log":                           {"celauthz.auditQueueSize", "celauthz.auditDrainTimeout"},
	"request to `/mcp/` of the admin API": {"internal/adminapi.maxRequest"},
}

// elsewhere are constants whose names look like bounds, but that bound nothing
// a reader of the table could reach.
var elsewhere = []string{
	"celauthz.maxLooks",                 // then all members are read at once
	"internal/mcpwire.maxGuardedName",   // the names it looks for are shorter
	"internal/mcpwire.maxIntegerDigits", // larger integers are never exact
	"internal/mcpwire.maxKeptCondensed", // a buffer that is kept
	"internal/mcpwire.maxKeptCuts",      // another one
	"internal/mcpwire.maxKeptEvent",     // another one
	"internal/mcpwire.maxKeptFields",    // another one
	"internal/mcpwire.maxShortTexts",    // a search that costs more than it brings
	"jwtauth.maxNumericDate",            // the year 9999
	"mcpproxy.idleConnsPerHost",         // in docs/mcp_proxy.md
	"mcpproxy.maxOpenedSize",            // a cache of what can be worked out again
	"mcpproxy.maxReplica",               // addresses come from the configuration
}

// TestBounds: the table has the values of the code, and every bound is in it.
func TestBounds(t *testing.T) {
	values := map[string]constant.Value{}
	for _, folder := range []string{
		"jwtauth", "celauthz", "mcpproxy", "mcpproxy/stdio", "internal/mcpwire", "internal/slowbody", "internal/cfutil", "internal/adminapi",
	} {
		for name, value := range constantsOf(t, folder) {
			values[folder+"."+name] = value
		}
	}
	named := slices.Clone(elsewhere)
	rows := 0
	for _, b := range blocks(t, "security.md") {
		if len(b.rows) == 0 || b.rows[0][0] != "what" {
			continue
		}
		for _, row := range b.rows[1:] {
			rows++
			constants, ok := bounds[row[0]]
			if !ok {
				t.Errorf("no constants are known for %q", row[0])
			}
			var want []float64
			for _, name := range constants {
				if values[name] == nil {
					t.Errorf("the code has no constant %s", name)
					continue
				}
				value, _ := constant.Float64Val(constant.ToFloat(values[name]))
				want = append(want, value)
			}
			if got := quantities(row[1]); !slices.Equal(got, want) {
				t.Errorf("%s: the page has %v, the code %s = %v", row[0], got, strings.Join(constants, ", "), want)
			}
			named = append(named, constants...)
		}
	}
	if rows != len(bounds) {
		t.Errorf("the table has %d rows, want %d", rows, len(bounds))
	}
	looksLikeBound := regexp.MustCompile(`\.([mM]ax[A-Z]|min[A-Z]|defaultMax)|(Limit|Timeout|Deadline|Cooldown|Wait)$`)
	for name := range values {
		if looksLikeBound.MatchString(name) && !slices.Contains(named, name) {
			t.Errorf("docs/security.md has no row for %s", name)
		}
	}
}

var quantity = regexp.MustCompile(`\b(\d+)(?:\^(\d+))?(?: (KiB|MiB|ms|min|s|h)\b)?`)

var units = map[string]float64{
	"": 1, "KiB": 1 << 10, "MiB": 1 << 20,
	"ms": float64(time.Millisecond), "s": float64(time.Second), "min": float64(time.Minute), "h": float64(time.Hour),
}

// quantities are the numbers in a cell, sizes in bytes, times in nanoseconds;
// 2^32 stands for the largest number below it.
func quantities(cell string) (list []float64) {
	for _, match := range quantity.FindAllStringSubmatch(cell, -1) {
		number, _ := strconv.ParseFloat(match[1], 64)
		if power, err := strconv.ParseFloat(match[2], 64); err == nil {
			number = math.Pow(number, power) - 1
		}
		list = append(list, number*units[match[3]])
	}
	return list
}

// constantsOf are the constants of a package. What it imports is not looked
// at, except for time.
func constantsOf(t *testing.T, folder string) map[string]constant.Value {
	t.Helper()
	names, err := filepath.Glob("../" + folder + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	checker := types.Config{
		Importer:         onlyTime{},
		Error:            func(error) {}, // of everything that needs another package
		IgnoreFuncBodies: true,
	}
	p, _ := checker.Check(folder, fset, files, nil)
	values := map[string]constant.Value{}
	for _, name := range p.Scope().Names() {
		if c, ok := p.Scope().Lookup(name).(*types.Const); ok && c.Val().Kind() != constant.Unknown {
			values[name] = c.Val()
		}
	}
	return values
}

// onlyTime knows the package time, and of it the durations.
type onlyTime struct{}

func (onlyTime) Import(path string) (*types.Package, error) {
	p := types.NewPackage(path, path[strings.LastIndexByte(path, '/')+1:])
	if path == "time" {
		duration := types.NewNamed(types.NewTypeName(token.NoPos, p, "Duration", nil), types.Typ[types.Int64], nil)
		p.Scope().Insert(duration.Obj())
		for name, value := range map[string]time.Duration{
			"Millisecond": time.Millisecond, "Second": time.Second, "Minute": time.Minute, "Hour": time.Hour,
		} {
			p.Scope().Insert(types.NewConst(token.NoPos, p, name, duration, constant.MakeInt64(int64(value))))
		}
	}
	p.MarkComplete()
	return p, nil
}
