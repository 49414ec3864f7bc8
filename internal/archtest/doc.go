// Package archtest holds tests about the tree itself: which package may import which, that the plugin builds the way
// xcaddy builds it, that no test can be skipped, and that the documentation is there and its links lead somewhere.
//
// Each rule is a function from files to complaints, and each is tried on a tree that breaks it as well: a check that
// cannot fail is worth nothing. The tests read every Go file of the repository, so the test cache of the go command
// notices when one has changed.
package archtest
