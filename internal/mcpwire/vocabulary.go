package mcpwire

import (
	"maps"
	"slices"
)

// knownWord finds one of the vocabulary. The first ones to compare are those of every message: on a stream that was
// quiet for a while, a look at a table is a look into memory.
func knownWord(text []byte) (string, bool) {
	for _, name := range envelopeNames {
		if string(text) == name {
			return name, true
		}
	}
	word, ok := vocabulary[string(text)]
	return word, ok
}

// vocabulary holds the words that most messages are made of, so that reading
// one does not make a copy of each.
var vocabulary = func() map[string]string {
	words := slices.Concat(
		envelopeNames, paramNames, metaNames, listenNames, Versions,
		slices.Collect(maps.Keys(targetPlaces)), slices.Collect(maps.Keys(untargetedMethods)),
		[]string{completionMethod, listenMethod, "notifications/initialized", "notifications/cancelled", "notifications/progress"},
		// of other members of params, of results, and of the entries of lists
		[]string{
			"2.0", "progressToken", "cursor", "nextCursor", "tools", "prompts", "resources", "resourceTemplates", "tasks", "uriTemplate",
			"title", "description", "inputSchema", "outputSchema", "annotations", "icons", "mimeType", "content", "structuredContent", "isError",
		},
	)
	m := make(map[string]string, len(words))
	for _, word := range words {
		m[word] = word
	}
	return m
}()
