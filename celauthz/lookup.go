package celauthz

import (
	"slices"

	"github.com/caddymcp/gateway/internal/mcpwire"
)

// kinds is how many kinds of targets there are, with none.
const kinds = int(mcpwire.Task) + 1

// indexed is a list of rules, or parts of them, that finds those which say
// anything about one target.
type indexed[C any] struct {
	list []C
	// general are those that may have to be evaluated for any name of a
	// kind, ascending.
	general [kinds][]candidate
	// named, starting and ending are the numbers of those for some names
	// more, each ascending.
	named            [kinds]map[string][]int
	starting, ending [kinds]affixIndex
}

// candidate is the number of one that has to be evaluated for all names, or
// for those of its pins.
type candidate struct {
	number int
	pins   *pins
}

// affixIndex finds numbers by how a name begins, or ends.
type affixIndex struct {
	byText map[string][]int
	// lengths of these texts, each once
	lengths []int
}

func (x *affixIndex) add(text string, number int) {
	if x.byText == nil {
		x.byText = make(map[string][]int)
	}
	if !slices.Contains(x.lengths, len(text)) {
		x.lengths = append(x.lengths, len(text))
	}
	x.byText[text] = append(x.byText[text], number)
}

// add appends one.
func (x *indexed[C]) add(c C, what relevance) {
	number := len(x.list)
	x.list = append(x.list, c)
	for kind := range mcpwire.TargetKind(kinds) {
		if !what.applies(mayCall, kind) {
			continue
		}
		switch pins := what.pins; {
		case pins == nil || pins.kind != kind:
			x.general[kind] = append(x.general[kind], candidate{number, nil})
		case !pins.areFound():
			x.general[kind] = append(x.general[kind], candidate{number, pins})
		default:
			x.pin(kind, number, pins)
		}
	}
}

func (x *indexed[C]) pin(kind mcpwire.TargetKind, number int, p *pins) {
	if x.named[kind] == nil {
		x.named[kind] = make(map[string][]int)
	}
	for _, name := range p.names {
		x.named[kind][name] = append(x.named[kind][name], number)
	}
	for _, affix := range p.affixes {
		if affix.place == atStart {
			x.starting[kind].add(affix.text, number)
		} else {
			x.ending[kind].add(affix.text, number)
		}
	}
}

// about returns those that a question is for: all of them, unless it is about
// one target. They are put together in room.
func (x *indexed[C]) about(q question, what *subject, room *[]int) walk {
	if q != mayCall && q != isVisible {
		return walk{number: -1, all: len(x.list)}
	}
	name := what.name
	found := (*room)[:0]
	found = append(found, x.named[what.kind][name]...)
	for _, length := range x.starting[what.kind].lengths {
		if length <= len(name) {
			found = append(found, x.starting[what.kind].byText[name[:length]]...)
		}
	}
	for _, length := range x.ending[what.kind].lengths {
		if length <= len(name) {
			found = append(found, x.ending[what.kind].byText[name[len(name)-length:]]...)
		}
	}
	*room = found
	slices.Sort(found)
	return walk{name: name, general: x.general[what.kind], pinned: slices.Compact(found)}
}

// walk goes through numbers in ascending order: through all of them, or
// through two ascending lists at once.
type walk struct {
	number  int
	all     int
	name    string
	general []candidate
	pinned  []int
}

// next goes on to the next number; false at the end.
func (w *walk) next() bool {
	if w.all > 0 {
		w.number++
		return w.number < w.all
	}
	for len(w.general) > 0 {
		first := &w.general[0]
		if len(w.pinned) > 0 && w.pinned[0] < first.number {
			break
		}
		w.general = w.general[1:]
		if first.pins == nil || first.pins.include(w.name) {
			w.number = first.number
			return true
		}
	}
	if len(w.pinned) == 0 {
		return false
	}
	w.number, w.pinned = w.pinned[0], w.pinned[1:]
	return true
}
