package change

import (
	"encoding/json"
	"reflect"
	"unicode/utf8"
)

// plain is a value as JSON decodes it: what the journal gives back. Nothing
// is taken away from it, so that an undo restores to the letter.
func plain(v any) any {
	data, err := json.Marshal(v)
	if err != nil {
		return v
	}
	var out any
	if err := json.Unmarshal(data, &out); err != nil {
		return v
	}
	return out
}

// normal brings a plain value into the one form in which values are compared:
// with nulls and with empty maps and lists pruned, which the API server does
// not tell from absent ones in the fields that irctl sets.
func normal(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for k, e := range v {
			// A podSelector that is empty selects everything: it is kept.
			if n := normal(e); n != nil {
				m[k] = n
			} else if _, isMap := e.(map[string]any); isMap && isSelector(k) {
				m[k] = map[string]any{}
			}
		}
		if len(m) == 0 {
			return nil
		}
		return m
	case []any:
		if len(v) == 0 {
			return nil
		}
		l := make([]any, len(v))
		for i, e := range v {
			l[i] = normal(e)
			// A rule that is empty allows everything: it must not vanish.
			if l[i] == nil {
				l[i] = map[string]any{}
			}
		}
		return l
	}
	return v
}

func isSelector(key string) bool {
	return key == "podSelector" || key == "namespaceSelector" || key == "selector"
}

func equal(a, b any) bool { return reflect.DeepEqual(normal(plain(a)), normal(plain(b))) }

// show is a value as a person reads it in a difference, bounded.
func show(v any) string {
	if v == nil {
		return "absent"
	}
	data, err := json.Marshal(v)
	if err != nil {
		return "unreadable"
	}
	const limit = 300
	if len(data) <= limit {
		return string(data)
	}
	cut := limit
	for cut > 0 && !utf8.RuneStart(data[cut]) {
		cut--
	}
	return string(data[:cut]) + "…"
}
