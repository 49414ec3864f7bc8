package jwtauth

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddymcp/gateway/internal/cfutil"
)

// keyPool holds the key sets that are fetched or watched, across reloads: a
// reload that leaves an issuer as it was fetches nothing anew.
var keyPool = caddy.NewUsagePool()

// logInterval is how often a failure that goes on is logged.
const logInterval = time.Minute

// runningSource is a key source with a goroutine behind it.
type runningSource interface {
	keySource
	statusSource
	run()
	close()
}

// pooledKeys is a key source in the pool, with what there is to tell about
// it.
type pooledKeys struct {
	runningSource
	issuer string
	// logger is the one of the configuration in use, which is not the one
	// that made the source.
	logger func() *zap.Logger
	// discovered is where the keys were found; nil where that is configured.
	discovered func() string

	mu      sync.Mutex
	counted keyCounts
	failing bool      // the last attempt failed
	logged  time.Time // when that was logged last
}

// keyCounts is what metrics show of a source.
type keyCounts struct {
	succeeded, failed int64
	keys              int
	fetched           time.Time
	// lastError is why the last attempt failed; "" when it did not.
	lastError string
}

// poolKeys returns the source for a configuration, which build makes if the
// pool has none. spec is everything that matters to it.
func poolKeys(spec any, issuer string, build func(*pooledKeys) (runningSource, error)) (source *pooledKeys, id string, err error) {
	id = fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%#v", spec)))
	value, _, err := keyPool.LoadOrNew(id, func() (caddy.Destructor, error) {
		pooled := &pooledKeys{issuer: issuer, logger: caddy.Log}
		running, err := build(pooled)
		if err != nil {
			return nil, err
		}
		pooled.runningSource = running
		return pooled, nil
	})
	if err != nil {
		return nil, "", err
	}
	source, ok := value.(*pooledKeys)
	if !ok {
		return nil, "", fmt.Errorf("the pool holds a %T", value)
	}
	return source, id, nil
}

// Destruct implements caddy.Destructor.
func (p *pooledKeys) Destruct() error {
	p.close()
	return nil
}

// observe is told of every fetch of a remote set.
func (p *pooledKeys) observe(set *keySet, err error) { p.observeFile(set, nil, err) }

// observeFile is told of every new version of a file.
func (p *pooledKeys) observeFile(set *keySet, skipped []error, err error) {
	for _, reason := range skipped {
		p.warn(reason)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if err == nil {
		p.counted.succeeded++
		p.counted.keys = len(set.all)
		p.counted.fetched = now
		p.counted.lastError = ""
		if p.failing {
			p.log().Info("the issuer's keys are available again")
		}
		p.failing = false
		return
	}
	p.counted.failed++
	// an address may hold a password, and an answer whatever the issuer likes
	p.counted.lastError = cfutil.LogText(redactURLs(err.Error()))
	if !p.failing || now.Sub(p.logged) >= logInterval {
		p.log().Error("the issuer's keys could not be refreshed; those there are stay in use for now",
			zap.String("error", p.counted.lastError))
		p.failing, p.logged = true, now
	}
}

// warn reports a key that is left out.
func (p *pooledKeys) warn(reason error) { p.log().Warn("key skipped", zap.Error(reason)) }

func (p *pooledKeys) log() *zap.Logger {
	return p.logger().Named("http.handlers.mcp_jwt.keys").With(zap.String("issuer", p.issuer))
}

func (p *pooledKeys) counts() keyCounts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counted
}
