package wire

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/boltseal/boltseal"
)

type inner struct {
	B Bytes `json:"b"`
	I Int   `json:"i"`
	T Time  `json:"t"`
	E Enum  `json:"e"`
}

type list []inner

func (l *list) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*l = nil
	return ReadArray(d, 2, "things", func() error {
		v, err := ReadValue[inner](d)
		*l = append(*l, v)
		return err
	})
}

type document struct {
	List list `json:"list"`
}

func TestScalars(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]inner{
		`{"b":"+/8="}`:        {B: Bytes{0xfb, 0xff}},
		`{"b":"-_8="}`:        {B: Bytes{0xfb, 0xff}},
		`{"b":"-_8"}`:         {B: Bytes{0xfb, 0xff}},
		`{"b":"+/8"}`:         {B: Bytes{0xfb, 0xff}},
		`{"b":""}`:            {B: Bytes{}},
		`{"b":null}`:          {},
		`{"i":"12"}`:          {I: 12},
		`{"i":-12}`:           {I: -12},
		`{"i":null}`:          {},
		`{"e":"SHA2_256"}`:    {E: "SHA2_256"},
		`{"e":1}`:             {E: "1"},
		`{"t":null,"e":null}`: {},
	} {
		var got inner
		if err := Decode("a test", []byte(text), 100, &got); err != nil || !bytes.Equal(got.B, want.B) || got.I != want.I || got.E != want.E || !got.T.Equal(want.T.Time) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	var at inner
	if err := Decode("a test", []byte(`{"t":"2021-01-12T11:53:27.000Z"}`), 100, &at); err != nil || at.T.Unix() != 1610452407 {
		t.Errorf("%v, %v", at.T, err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{"b":"+/9="}`, `{"b":"+_8="}`, `{"b":"+/8=\n"}`, `{"b":"a"}`, `{"b":"===="}`, `{"b":1}`, `{"b":["+/8="]}`,
		`{"i":1.0}`, `{"i":"1e3"}`, `{"i":1e3}`, `{"i":"01"}`, `{"i":"+1"}`, `{"i":9223372036854775808}`, `{"i":" 1"}`, `{"i":true}`,
		`{"t":"yesterday"}`, `{"t":1}`, `{"e":true}`, `{"B":"+/8="}`, `{"b":"","b":""}`, `{"c":1}`, `{} {}`, `[]`, ``, `{"b":"` + "\xff" + `"}`,
	} {
		var got inner
		if err := Decode("a test", []byte(text), 100, &got); !errors.Is(err, boltseal.ErrMalformed) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{`{"list":[{"c":1}]}`, `{"list":[null]}`, `{"list":{}}`, `{"list":[`, `{"list":[{"i":1},`} {
		var got document
		if err := Decode("a test", []byte(text), 100, &got); !errors.Is(err, boltseal.ErrMalformed) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	var got document
	if err := Decode("a test", []byte(`{"list":[{},{}]}`), 100, &got); err != nil || len(got.List) != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := Decode("a test", []byte(`{"list":[{},{},{}]}`), 100, &got); !errors.Is(err, boltseal.ErrLimit) || !strings.Contains(err.Error(), "more than 2 things") {
		t.Errorf("%v", err)
	}
	if err := Decode("a test", []byte(`{"list":[]}`), 10, &got); !errors.Is(err, boltseal.ErrLimit) {
		t.Errorf("%v", err)
	}
	if err := DecodeOpen("a test", []byte(`{"other":[{"x":1}]}`), 100, &got); err != nil {
		t.Errorf("%v", err)
	}
}
