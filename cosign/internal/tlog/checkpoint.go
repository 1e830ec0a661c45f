package tlog

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/cosign/internal/bundle"
	"github.com/boltseal/boltseal/cosign/internal/sigkey"
)

// Limits on a checkpoint.
const (
	maxCheckpoint      = 16 << 10
	maxCheckpointSigns = 32
)

// Log is whose checkpoints are trusted.
type Log struct {
	Key crypto.PublicKey
	// Host is the log's name, which its checkpoints begin with; a log of Rekor's first
	// version says more behind it. "" where it is not known.
	Host string
}

// VerifyProof checks that a log has an entry: the checkpoint is signed by the log, and
// the hashes lead from the entry to its root (RFC 6962 section 2.1.1).
func VerifyProof(log Log, v2 bool, p *bundle.Proof, body []byte) error {
	size, root, err := openCheckpoint(log, v2, p.Checkpoint)
	switch {
	case err != nil:
		return err
	case size != p.Size:
		return fmt.Errorf("the checkpoint is of a tree of %d entries, and the proof of one of %d", size, p.Size)
	case !bytes.Equal(p.Root, root[:]):
		return errors.New("the checkpoint is of another tree than the proof")
	}
	proof := make(tlog.RecordProof, len(p.Hashes))
	for i, h := range p.Hashes {
		if len(h) != tlog.HashSize {
			return fmt.Errorf("%w: the proof has a hash of %d bytes", boltseal.ErrMalformed, len(h))
		}
		copy(proof[i][:], h)
	}
	if err := tlog.CheckRecord(proof, p.Size, root, p.Index, tlog.RecordHash(body)); err != nil {
		return errors.New("the proof does not lead from the entry to the checkpoint")
	}
	return nil
}

// openCheckpoint verifies a checkpoint (C2SP tlog-checkpoint.md), and returns its tree's
// size and root. Signatures of witnesses, whose keys nobody here knows, are passed over
// in any number that the note's format allows.
func openCheckpoint(log Log, v2 bool, text string) (size int64, root tlog.Hash, err error) {
	if len(text) > maxCheckpoint {
		return 0, root, fmt.Errorf("%w: a checkpoint of %d bytes, at most %d", boltseal.ErrLimit, len(text), maxCheckpoint)
	}
	if n := strings.Count(text, "\n\u2014 "); n > maxCheckpointSigns {
		return 0, root, fmt.Errorf("%w: a checkpoint with %d signatures, at most %d", boltseal.ErrLimit, n, maxCheckpointSigns)
	}
	signed, err := note.Open([]byte(text), noteKeys{log, v2})
	var unverified *note.UnverifiedNoteError
	var invalid *note.InvalidSignatureError
	switch {
	case errors.As(err, &unverified):
		return 0, root, errors.New("the checkpoint is not signed by the log")
	case errors.As(err, &invalid):
		return 0, root, errors.New("the checkpoint's signature was not made by the log's key, or the checkpoint was changed")
	case err != nil:
		return 0, root, fmt.Errorf("%w: the checkpoint is not a signed note", boltseal.ErrMalformed)
	}
	lines := strings.SplitN(signed.Text, "\n", 4)
	if len(lines) < 4 || lines[0] == "" {
		return 0, root, fmt.Errorf("%w: the checkpoint lacks its origin, its size or its root", boltseal.ErrMalformed)
	}
	if v2 && lines[0] != log.Host {
		return 0, root, fmt.Errorf("the checkpoint is of the log %.100q, not %s", lines[0], log.Host)
	}
	if size, err = strconv.ParseInt(lines[1], 10, 64); err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return 0, root, fmt.Errorf("%w: the checkpoint's size is not a number", boltseal.ErrMalformed)
	}
	h, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(h) != len(root) {
		return 0, root, fmt.Errorf("%w: the checkpoint's root is not a hash", boltseal.ErrMalformed)
	}
	return size, tlog.Hash(h), nil
}

// noteKeys knows one log's key, by the name and the four bytes that signatures of notes
// give (C2SP signed-note.md).
type noteKeys struct {
	log Log
	v2  bool
}

// Verifier implements [note.Verifiers].
func (k noteKeys) Verifier(name string, hash uint32) (note.Verifier, error) {
	unknown := &note.UnknownVerifierError{Name: name, KeyHash: hash}
	if k.v2 && name != k.log.Host {
		return nil, unknown
	}
	if want, err := noteHash(k.log.Key, name, k.v2); err != nil || want != hash {
		return nil, unknown
	}
	return noteKey{k.log.Key, name, hash}, nil
}

// noteHash is the four bytes by which a log's signature names its key.
func noteHash(key crypto.PublicKey, name string, v2 bool) (uint32, error) {
	if k, ok := key.(ed25519.PublicKey); ok && v2 {
		sum := sha256.Sum256(append([]byte(name+"\n\x01"), k...))
		return binary.BigEndian.Uint32(sum[:]), nil
	}
	der, err := sigkey.SPKI(key)
	if err != nil {
		return 0, err
	}
	sum := sha256.Sum256(der)
	return binary.BigEndian.Uint32(sum[:]), nil
}

type noteKey struct {
	key  crypto.PublicKey
	name string
	hash uint32
}

// Name implements [note.Verifier].
func (k noteKey) Name() string { return k.name }

// KeyHash implements [note.Verifier].
func (k noteKey) KeyHash() uint32 { return k.hash }

// Verify implements [note.Verifier].
func (k noteKey) Verify(text, signature []byte) bool {
	a, err := sigkey.Default(k.key)
	return err == nil && sigkey.Verify(k.key, a, text, signature) == nil
}
