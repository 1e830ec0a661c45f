package testsigstore

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// treeID is the number of the first version's tree.
const treeID = 2605736670972794746

// shard is how far the indexes of the first version's shards are from those of its tree.
const shard = 4163431

// Log is a transparency log with a real Merkle tree.
type Log struct {
	Host string
	Key  crypto.Signer
	ID   []byte
	V2   bool

	mu     sync.Mutex
	hashes []tlog.Hash
	size   int64
}

func newLog(host string, key crypto.Signer, v2 bool) (*Log, error) {
	l := &Log{Host: host, Key: key, V2: v2}
	l.ID = keyID(key.Public())
	if k, ok := key.Public().(ed25519.PublicKey); ok {
		sum := sha256.Sum256(append([]byte(host+"\n\x01"), k...))
		l.ID = sum[:]
	}
	for i := range 11 { // so that proofs have hashes
		if _, err := l.append(fmt.Appendf(nil, "an entry of somebody else, %d", i)); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// ReadHashes implements [tlog.HashReader].
func (l *Log) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, n := range indexes {
		out[i] = l.hashes[n]
	}
	return out, nil
}

func (l *Log) append(body []byte) (index int64, err error) {
	hashes, err := tlog.StoredHashes(l.size, body, l)
	if err != nil {
		return 0, fmt.Errorf("testsigstore: %w", err)
	}
	l.hashes = append(l.hashes, hashes...)
	l.size++
	return l.size - 1, nil
}

// Entry is an entry of a log, with all that may prove it.
type Entry struct {
	Log           *Log
	Kind, Version string
	Body          []byte
	Index         int64 // in the tree
	GlobalIndex   int64 // over all shards; of the second version the same
	Integrated    time.Time
	Promise       []byte
	Hashes        [][]byte
	Root          []byte
	Size          int64
	Checkpoint    string
}

// Add logs an entry.
func (l *Log) Add(kind, version string, body []byte, at time.Time) (*Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	index, err := l.append(body)
	if err != nil {
		return nil, err
	}
	e := &Entry{Log: l, Kind: kind, Version: version, Body: body, Index: index, GlobalIndex: index, Size: l.size}
	proof, err := tlog.ProveRecord(l.size, index, l)
	if err != nil {
		return nil, fmt.Errorf("testsigstore: %w", err)
	}
	for _, h := range proof {
		e.Hashes = append(e.Hashes, h[:])
	}
	root, err := tlog.TreeHash(l.size, l)
	if err != nil {
		return nil, fmt.Errorf("testsigstore: %w", err)
	}
	e.Root = root[:]
	if e.Checkpoint, err = l.checkpoint(l.size, e.Root); err != nil || l.V2 {
		return e, err
	}
	e.GlobalIndex += shard
	e.Integrated = at.UTC().Truncate(time.Second)
	return e, e.Resign()
}

// Resign makes the promise again, of what the entry says now.
func (e *Entry) Resign() (err error) {
	text := fmt.Appendf(nil, `{"body":"%s","integratedTime":%d,"logID":"%x","logIndex":%d}`, encodeBase64(e.Body), e.Integrated.Unix(), e.Log.ID, e.GlobalIndex)
	e.Promise, err = signDigest(e.Log.Key, crypto.SHA256, text)
	return err
}

// checkpoint is a signed note.
func (l *Log) checkpoint(size int64, root []byte) (string, error) {
	origin, id := l.Host, l.ID[:4]
	if !l.V2 {
		origin = fmt.Sprintf("%s - %d", l.Host, treeID)
	}
	return l.SignNote(l.Host, id, fmt.Sprintf("%s\n%d\n%s\n", origin, size, encodeBase64(root)))
}

// SignNote signs a text as a note, under a name and with the four bytes that name a key.
func (l *Log) SignNote(name string, id []byte, text string) (string, error) {
	sig, err := signDigest(l.Key, crypto.SHA256, []byte(text))
	if err != nil {
		return "", err
	}
	return text + "\n\u2014 " + name + " " + base64.StdEncoding.EncodeToString(append(append([]byte{}, id...), sig...)) + "\n", nil
}

// bundled is the entry as bundles have it.
func (e *Entry) bundled(promise, proof bool) map[string]any {
	out := map[string]any{"logIndex": fmt.Sprint(e.GlobalIndex), "logId": map[string]any{"keyId": encodeBase64(e.Log.ID)},
		"kindVersion": map[string]any{"kind": e.Kind, "version": e.Version}, "canonicalizedBody": encodeBase64(e.Body)}
	if !e.Integrated.IsZero() {
		out["integratedTime"] = fmt.Sprint(e.Integrated.Unix())
	}
	if promise && e.Promise != nil {
		out["inclusionPromise"] = map[string]any{"signedEntryTimestamp": encodeBase64(e.Promise)}
	}
	if proof {
		hashes := []any{}
		for _, h := range e.Hashes {
			hashes = append(hashes, encodeBase64(h))
		}
		out["inclusionProof"] = map[string]any{"logIndex": fmt.Sprint(e.Index), "treeSize": fmt.Sprint(e.Size), "rootHash": encodeBase64(e.Root),
			"hashes": hashes, "checkpoint": map[string]any{"envelope": e.Checkpoint}}
	}
	return out
}
