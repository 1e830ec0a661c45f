package page

import (
	"errors"
	"fmt"
	"net/url"
)

// Query says which page is asked for. The zero value is the overview. Names are as the
// hub has them; Namespace goes with Cluster, and of the others there is one at most.
type Query struct {
	Assignment, Cluster, Namespace, Image, Exemption, Change string
}

// ErrQuery says that a query is not one of a page.
var ErrQuery = errors.New("this address is not one of the page's")

// maxQuery bounds what is read of an address, in bytes: an image's name has 512, each of
// them in three.
const maxQuery = 4096

// fields are the parts of a query by their names in addresses, in the order that they are written in.
func (q *Query) fields() []struct {
	name  string
	value *string
} {
	return []struct {
		name  string
		value *string
	}{{"assignment", &q.Assignment}, {"cluster", &q.Cluster}, {"namespace", &q.Namespace}, {"image", &q.Image}, {"exemption", &q.Exemption}, {"change", &q.Change}}
}

// ParseQuery reads the part of an address that follows its question mark. What is not
// known in it, or is there twice, is an error.
func ParseQuery(raw string) (Query, error) {
	var q Query
	if len(raw) > maxQuery {
		return q, ErrQuery
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return Query{}, ErrQuery
	}
	known := 0
	var named []string
	for _, f := range q.fields() {
		v, ok := values[f.name]
		if !ok {
			continue
		}
		if len(v) != 1 || v[0] == "" {
			return Query{}, fmt.Errorf("%w: %s must be there once, with a name", ErrQuery, f.name)
		}
		*f.value, known = v[0], known+1
		named = append(named, f.name)
	}
	switch {
	case known != len(values):
		return Query{}, ErrQuery
	case known > 1 && (known != 2 || q.Cluster == "" || q.Namespace == ""), known == 1 && q.Namespace != "":
		return Query{}, fmt.Errorf("%w: %q do not go together", ErrQuery, named)
	}
	return q, nil
}

// Encode returns the query as ParseQuery reads it.
func (q Query) Encode() string {
	out := ""
	for _, f := range q.fields() {
		if *f.value == "" {
			continue
		}
		if out != "" {
			out += "&"
		}
		out += f.name + "=" + url.QueryEscape(*f.value)
	}
	return out
}

// id is the query's place in a file.
func (q Query) id() string {
	if q == (Query{}) {
		return "overview"
	}
	return q.Encode()
}

// address returns where a link to a query leads; "" means that there is no link.
type address func(Query) string
