package jwtauth

import (
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"testing"
)

// A34: a key as the broken generator makes it is found, and no other.
func TestA34_ROCAModulus(t *testing.T) {
	broken := rocaModulus()
	if broken.BitLen() < minRSABits || !isROCA(broken) {
		t.Errorf("a modulus of %d bits is not found", broken.BitLen())
	}
	// one more prime of another kind, or the next number, is no such product
	for _, n := range []*big.Int{
		new(big.Int).Add(broken, big.NewInt(2)),
		new(big.Int).Mul(broken, big.NewInt(7)),
		big.NewInt(0),
	} {
		if isROCA(n) {
			t.Errorf("%v is found", n)
		}
	}
	good := rsaOnce().Private.(*rsa.PrivateKey).N
	if isROCA(good) {
		t.Error("a key of Go is found")
	}
	// as are hardly any numbers
	for range 100 {
		n, err := rand.Int(rand.Reader, good)
		if err != nil {
			t.Fatal(err)
		}
		if isROCA(n) {
			t.Fatalf("%v is found", n)
		}
	}
}

func TestPowerOf65537(t *testing.T) {
	for _, prime := range rocaPrimes {
		if !big.NewInt(prime).ProbablyPrime(0) {
			t.Errorf("%d is not prime", prime)
		}
		powers := make(map[int64]bool)
		for exponent := range prime {
			power := new(big.Int).Exp(big.NewInt(65537), big.NewInt(exponent), big.NewInt(prime))
			powers[power.Int64()] = true
		}
		for r := range prime {
			if isPowerOf65537(r, prime) != powers[r] {
				t.Errorf("%d modulo %d: %v", r, prime, !powers[r])
			}
		}
	}
}
