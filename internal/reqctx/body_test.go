package reqctx

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

// withBody is a request whose body says that it has this length.
func withBody(body io.Reader, length int64) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", io.NopCloser(body))
	r.ContentLength = length
	return r
}

// TestReadBody: what was read is what goes on, whatever its size and however it comes.
func TestReadBody(t *testing.T) {
	for _, size := range []int{1, 2, believedLength - 1, believedLength, believedLength + 1, 16 * believedLength} {
		want := strings.Repeat("0123456789", size/10+1)[:size]
		for name, how := range map[string]func(io.Reader) io.Reader{
			"at once":                func(r io.Reader) io.Reader { return r },
			"byte by byte":           iotest.OneByteReader,
			"with the end":           iotest.DataErrReader,
			"half of what is wanted": iotest.HalfReader,
		} {
			r := withBody(how(strings.NewReader(want)), int64(size))
			got, err := ReadBody(r)
			if string(got) != want || err != nil {
				t.Errorf("%d bytes %s: got %d, %v", size, name, len(got), err)
			}
			body, ok := r.Body.(*Body)
			if !ok || body.Len() != int64(size) {
				t.Fatalf("%d bytes %s: the body is a %T", size, name, r.Body)
			}
			if next, err := io.ReadAll(body); string(next) != want || err != nil {
				t.Errorf("%d bytes %s: the next one gets %d, %v", size, name, len(next), err)
			}
			if again, err := io.ReadAll(body.Whole()); string(again) != want || err != nil {
				t.Errorf("%d bytes %s: a transport gets %d, %v", size, name, len(again), err)
			}
		}
	}
}

// TestReadBodyOfAnotherLength: a body that does not keep its word is no body.
func TestReadBodyOfAnotherLength(t *testing.T) {
	broken := errors.New("broken")
	for _, size := range []int64{1, believedLength, believedLength + 1, 3 * believedLength} {
		whole := strings.Repeat("x", int(size))
		for name, test := range map[string]struct {
			body io.Reader
			want error
		}{
			"nothing":       {strings.NewReader(""), io.EOF},
			"one too many":  {strings.NewReader(whole + "x"), ErrBodyTooLarge},
			"fails":         {io.MultiReader(strings.NewReader(whole[1:]), iotest.ErrReader(broken)), broken},
			"fails at last": {io.MultiReader(strings.NewReader(whole), iotest.ErrReader(broken)), broken},
		} {
			if body, err := ReadBody(withBody(test.body, size)); body != nil || !errors.Is(err, test.want) {
				t.Errorf("%d, %s: %d bytes, %v, want %v", size, name, len(body), err, test.want)
			}
		}
		if body, err := ReadBody(withBody(strings.NewReader(whole[1:]), size)); body != nil || err == nil {
			t.Errorf("%d, one missing: %d bytes, %v", size, len(body), err)
		}
	}
}

// TestA111_LengthIsNotBelieved: a length alone reserves next to nothing.
func TestA111_LengthIsNotBelieved(t *testing.T) {
	const length = 1 << 30
	come := bytes.Repeat([]byte("x"), believedLength-1)
	const rounds = 100
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range rounds {
		if _, err := ReadBody(withBody(bytes.NewReader(come), length)); err == nil {
			t.Fatal("there is a body")
		}
	}
	runtime.ReadMemStats(&after)
	// with the request and its readers
	if got := (after.TotalAlloc - before.TotalAlloc) / rounds; got > 4*believedLength {
		t.Errorf("%d bytes reserved", got)
	}
}
