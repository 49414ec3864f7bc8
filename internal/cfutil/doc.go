// Package cfutil holds the few things that all handlers need of Caddy:
// placeholders of the configuration, and answers that error routes can take
// over.
package cfutil
