package mcpwire

// Protocol versions that change how a message is treated. They are dates,
// so they compare as strings.
const (
	// Version20250326 is assumed for a request without
	// MCP-Protocol-Version.
	Version20250326 = "2025-03-26"
	// VersionModern is the first version without sessions: every request
	// carries its own version and capabilities.
	VersionModern = "2026-07-28"
)

// IsModern reports whether a version belongs to the sessionless era.
func IsModern(version string) bool { return version >= VersionModern }
