package xapi

import (
	"context"
	"fmt"

	"sidetone/agent/internal/threecx"
)

const (
	// pageSize is the most that a v20 gives at once.
	pageSize = 100
	// maxPages bounds one collection: 10,000 rows.
	maxPages = 100
	// maxName and maxWord limit text taken from the PBX, bytes.
	maxName = 200
	maxWord = 64
)

// collection is a page of rows; Value is nil when the answer has none.
type collection[T any] struct {
	Value *[]T `json:"value"`
}

// readAll reads a collection page by page, until a page is short. key tells one row
// from another, so that a PBX that ignores $skip does not send us round in circles.
func readAll[T any](ctx context.Context, c *Client, p threecx.Path, options string, key func(*T) string) ([]T, error) {
	var rows []T
	first := ""
	for page := range maxPages {
		q := fmt.Sprintf("$top=%d", pageSize)
		if options != "" {
			q = options + "&" + q
		}
		if page > 0 {
			q += fmt.Sprintf("&$skip=%d", page*pageSize)
		}
		part, err := readPage[T](ctx, c, p, q)
		if err != nil {
			return nil, err
		}
		if len(part) > 0 {
			if k := key(&part[0]); page > 0 && k == first {
				return rows, nil
			} else if page == 0 {
				first = k
			}
		}
		rows = append(rows, part...)
		if len(part) < pageSize {
			return rows, nil
		}
	}
	return nil, threecx.Errorf(threecx.ErrAnswer, nil, "%s has more than %d rows", p, maxPages*pageSize)
}

func readPage[T any](ctx context.Context, c *Client, p threecx.Path, query string) ([]T, error) {
	var v collection[T]
	if _, err := c.get(ctx, p, query, &v); err != nil {
		return nil, err
	}
	if v.Value == nil {
		return nil, threecx.Errorf(threecx.ErrAnswer, nil, "the answer to %s has no rows in it", p)
	}
	return *v.Value, nil
}
