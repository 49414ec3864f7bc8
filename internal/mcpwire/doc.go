// Package mcpwire reads the messages of the Model Context Protocol as
// strictly as a gate must: one parser (jsontext) decides, names match
// exactly, duplicate members and invalid UTF-8 are refused at every depth,
// and nothing is ever re-encoded. It knows nothing of HTTP servers, rules
// or configuration.
package mcpwire
