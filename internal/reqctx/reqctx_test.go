package reqctx

import "testing"

func TestPrincipal(t *testing.T) {
	identities := map[string]*Identity{
		"alice":                 {Issuer: "a", Subject: "alice"},
		"bob":                   {Issuer: "a", Subject: "bob"},
		"alice of b":            {Issuer: "b", Subject: "alice"},
		"alice by a client":     {Issuer: "a", Subject: "alice", ClientID: "c"},
		"alice by another":      {Issuer: "a", Subject: "alice", ClientID: "d"},
		"parts moved":           {Issuer: "aalice"},
		"parts that look alike": {Issuer: "a5:alice"},
		"named anonymous":       {Subject: "anonymous"},
		"anonymous":             {Anonymous: true},
	}
	seen := make(map[string]string)
	for name, identity := range identities {
		principal := identity.Principal()
		if other, taken := seen[principal]; taken {
			t.Errorf("%s and %s are the same principal %q", name, other, principal)
		}
		seen[principal] = name
	}

	alice := identities["alice by a client"].Principal()
	refreshed := &Identity{Issuer: "a", Subject: "alice", ClientID: "c", Claims: Claims(`{"client_id":"c","jti":"2"}`)}
	if refreshed.Principal() != alice {
		t.Error("a refreshed token is another principal")
	}
	if (*Identity)(nil).Principal() != identities["anonymous"].Principal() {
		t.Error("unjudged requests are not anonymous")
	}
}
