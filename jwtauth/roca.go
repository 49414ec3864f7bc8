package jwtauth

import "math/big"

// rocaPrimes are the small primes by which keys of the broken generator are
// recognised; all of them together raise a false alarm for one key in 2^28.
var rocaPrimes = []int64{
	3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83,
	89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
}

// isROCA reports whether an RSA modulus is the product of primes of the form
// k*M + (65537^a mod M), which can be factored (CVE-2017-15361). Modulo every
// small prime such a modulus is a power of 65537.
func isROCA(n *big.Int) bool {
	remainder := new(big.Int)
	for _, prime := range rocaPrimes {
		r := remainder.Mod(n, big.NewInt(prime)).Int64()
		if !isPowerOf65537(r, prime) {
			return false
		}
	}
	return true
}

func isPowerOf65537(r, prime int64) bool {
	for power, i := int64(1), int64(0); i < prime; i++ {
		if power == r {
			return true
		}
		power = power * 65537 % prime
	}
	return false
}
