package boltseal_test

import (
	"testing"

	"github.com/boltseal/boltseal/internal/test/testhouse"
)

const repo = testhouse.Repo

type houseOptions = testhouse.Options

func need[T any](v T, err error) func(testing.TB) T { return testhouse.Need(v, err) }

var (
	newHouse = testhouse.New
	expect   = testhouse.Expect
)
