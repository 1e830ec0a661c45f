package audit

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/boltseal/boltseal/internal/base/plain"
)

// Limits on one line: a caller must not be able to ask so much that its decision
// goes unrecorded.
const (
	maxLineBytes  = 2<<20 - 64<<10 // of images; with the rest, half of what a Log queues
	maxImageBytes = 1 << 10        // of an image's text; a reference has at most half of it
)

// AppendDecision appends a decision's line, without its end, to dst. It writes
// what encoding/json would read back as d, at a fraction of the cost: there is a
// line for every request.
func AppendDecision(dst []byte, d *Decision) []byte {
	dst = append(dst, `{"kind":"`+KindDecision+`","id":`...)
	dst = appendText(dst, d.ID)
	dst = append(dst, `,"time":"`...)
	dst = d.Time.AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, `","source":`...)
	dst = appendText(dst, d.Source)
	dst = append(dst, `,"decision":`...)
	dst = appendText(dst, d.Decision)
	dst = append(dst, `,"tookNanoseconds":`...)
	dst = strconv.AppendInt(dst, int64(d.Took), 10)
	dst = appendSpent(dst, d.Spent)
	if d.TraceID != "" {
		dst = appendText(append(dst, `,"traceID":`...), d.TraceID)
	}
	dst = append(dst, `,"generation":`...)
	dst = strconv.AppendUint(dst, d.Generation, 10)
	if d.Request != nil {
		if b, err := json.Marshal(d.Request); err == nil {
			dst = append(append(dst, `,"request":`...), b...)
		}
	}
	if len(d.Policies) > 0 {
		dst = append(dst, `,"policies":[`...)
		for i, p := range d.Policies {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendText(dst, p)
		}
		dst = append(dst, ']')
	}
	dst = append(dst, `,"images":[`...)
	omitted, most := d.Omitted, len(dst)+maxLineBytes
	for i := range d.Images {
		before := len(dst)
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst = appendImage(dst, &d.Images[i]); len(dst) > most {
			dst = dst[:before]
			omitted += len(d.Images) - i
			break
		}
	}
	dst = append(dst, ']')
	if omitted > 0 {
		dst = strconv.AppendInt(append(dst, `,"imagesOmitted":`...), int64(omitted), 10)
	}
	return append(dst, '}')
}

func appendImage(dst []byte, img *Image) []byte {
	image := img.Image
	if len(image) > maxImageBytes {
		image = strings.ToValidUTF8(image[:maxImageBytes], "") + "…"
	}
	dst = appendText(append(dst, `{"image":`...), image)
	if img.Container != "" {
		dst = appendText(append(dst, `,"container":`...), img.Container)
	}
	if img.Namespace != "" {
		dst = appendText(append(dst, `,"namespace":`...), img.Namespace)
	}
	if img.Digest != "" && !strings.HasSuffix(image, img.Digest) {
		dst = appendText(append(dst, `,"digest":`...), img.Digest)
	}
	if img.LastGood != "" {
		dst = appendText(append(dst, `,"lastKnownGood":`...), img.LastGood)
	}
	if img.Unpinned {
		dst = append(dst, `,"unpinned":true`...)
	}
	if len(img.Exempt) > 0 {
		dst = append(dst, `,"exempt":[`...)
		for i, e := range img.Exempt {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendText(dst, e)
		}
		dst = append(dst, ']')
	}
	dst = appendImageSpent(dst, img.Spent)
	dst = append(dst, ',')
	if len(img.Encoded) > 0 {
		dst = append(dst, img.Encoded...)
	} else {
		dst = appendText(append(dst, `"decision":`...), img.Decision)
		if img.Message != "" {
			dst = appendText(append(dst, `,"message":`...), img.Message)
		}
	}
	return append(dst, '}')
}

func appendText(dst []byte, s string) []byte {
	if plain.JSON(s) {
		return append(append(append(dst, '"'), s...), '"')
	}
	out, err := jsontext.AppendQuote(dst, s)
	if err != nil { // not UTF-8; what could be written of it is there
		return out
	}
	return out
}
