package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"
)

// The command line, on the standard library's flag. A parser that calls methods by
// their name would keep every method of every type in the program: 3.8 MB of it.

// command is one word of the command line: a group of commands, or one that runs.
type command struct {
	name   string
	alias  string
	arg    string // its one argument as the usage shows it; "" when it takes none
	help   string // one sentence
	more   string // shown by --help besides
	hidden bool
	sub    []*command
	flags  func(*flags)
	run    func(arg string) error
}

// usageError is a mistake in the command line.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// execute runs what args ask for.
func (c *command) execute(args []string, out io.Writer) error {
	path := c.name
	for len(c.sub) > 0 {
		switch {
		case len(args) == 0 || isHelp(args[0]):
			c.usage(out, path, nil)
			if len(args) > 0 {
				return nil
			}
			return &usageError{path + ": which command?"}
		}
		i := slices.IndexFunc(c.sub, func(s *command) bool { return args[0] != "" && (s.name == args[0] || s.alias == args[0]) })
		if i < 0 {
			return &usageError{fmt.Sprintf("unknown command %q: see %s --help", args[0], path)}
		}
		c, args = c.sub[i], args[1:]
		path += " " + c.name
	}
	f := newFlags(path)
	if c.flags != nil {
		c.flags(f)
	}
	rest, err := f.parse(args)
	if errors.Is(err, flag.ErrHelp) {
		c.usage(out, path, f)
		return nil
	}
	see := fmt.Sprintf(": see %s --help", path)
	switch {
	case err != nil:
		return &usageError{err.Error() + see}
	case c.arg == "" && len(rest) > 0, len(rest) > 1:
		return &usageError{fmt.Sprintf("unexpected %q%s", rest[len(rest)-1], see)}
	case c.arg != "" && len(rest) == 0:
		return &usageError{fmt.Sprintf("%s wants a %s%s", path, c.arg, see)}
	case c.arg != "":
		return c.run(rest[0])
	}
	return c.run("")
}

func isHelp(arg string) bool {
	return arg == "-h" || arg == "--help" || arg == "-help" || arg == "help"
}

// usage explains the command; f is nil for a group.
func (c *command) usage(out io.Writer, path string, f *flags) {
	switch {
	case f == nil:
		fmt.Fprintf(out, "Usage: %s COMMAND\n\n", path)
	case c.arg != "":
		fmt.Fprintf(out, "Usage: %s %s [flags]\n\n", path, c.arg)
	default:
		fmt.Fprintf(out, "Usage: %s [flags]\n\n", path)
	}
	if c.help != "" {
		fmt.Fprintln(out, c.help)
	}
	if c.more != "" {
		fmt.Fprintf(out, "\n%s\n", c.more)
	}
	var rows [][2]string
	if f != nil {
		for _, s := range f.specs {
			rows = append(rows, [2]string{"--" + s.name + s.value, s.help})
		}
		table(out, "\nFlags:", rows)
		return
	}
	var list func(c *command, prefix string)
	list = func(c *command, prefix string) {
		for _, s := range c.sub {
			switch {
			case s.hidden:
			case len(s.sub) > 0:
				list(s, prefix+s.name+" ")
			default:
				rows = append(rows, [2]string{prefix + strings.TrimSpace(s.name+" "+s.arg), s.help})
			}
		}
	}
	list(c, "")
	table(out, "\nCommands:", rows)
	fmt.Fprintf(out, "\n%s COMMAND --help says more of a command.\n", path)
}

// table prints two columns, the second one folded.
func table(out io.Writer, title string, rows [][2]string) {
	const width, most = 80, 24
	first := 0
	for _, r := range rows {
		first = min(max(first, utf8.RuneCountInString(r[0])), most)
	}
	fmt.Fprintln(out, title)
	for _, r := range rows {
		left := r[0]
		for _, line := range fold(r[1], width-first-4) {
			fmt.Fprintf(out, "  %-*s  %s\n", first, left, line)
			left = ""
		}
	}
}

func fold(text string, width int) []string {
	var lines []string
	line := ""
	for _, w := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(w) > width {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimSpace(line + " " + w)
	}
	return append(lines, line)
}

// flags are those of one command.
type flags struct {
	set    *flag.FlagSet
	specs  []spec
	checks []func() error
}

type spec struct{ name, value, help string }

func newFlags(name string) *flags {
	f := &flags{set: flag.NewFlagSet(name, flag.ContinueOnError)}
	f.set.SetOutput(io.Discard)
	f.set.Usage = func() {}
	return f
}

// text is a flag with a value; env may name a variable that stands in for it.
func (f *flags) text(p *string, name, value, preset, env, help string) {
	if env != "" {
		help += " ($" + env + ")"
		if v := os.Getenv(env); v != "" {
			preset = v
		}
	}
	f.set.StringVar(p, name, preset, "")
	f.specs = append(f.specs, spec{name, "=" + value, help})
}

// choice is a text out of a few.
func (f *flags) choice(p *string, name, value, preset, help string, words ...string) {
	f.text(p, name, value, preset, "", help)
	f.checks = append(f.checks, func() error {
		if *p != preset && !slices.Contains(words, *p) {
			return fmt.Errorf("--%s: %q is not one of %s", name, *p, strings.Join(words, ", "))
		}
		return nil
	})
}

// format is how a command prints what it found.
func (f *flags) format(p *string) {
	f.choice(p, "format", "FORMAT", "text", "text or json.", "text", "json")
}

// texts may be given several times.
func (f *flags) texts(p *[]string, name, value, help string) {
	f.set.Func(name, "", func(s string) error { *p = append(*p, s); return nil })
	f.specs = append(f.specs, spec{name, "=" + value, help})
}

// on is a switch.
func (f *flags) on(p *bool, name, help string) {
	f.set.BoolVar(p, name, false, "")
	f.specs = append(f.specs, spec{name, "", help})
}

// parse takes flags before and after arguments, and gives the arguments.
func (f *flags) parse(args []string) (rest []string, err error) {
	for {
		if err := f.set.Parse(args); err != nil {
			if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); ok {
				err = fmt.Errorf("unknown flag --%s", name)
			}
			return nil, err
		}
		args = f.set.Args()
		if len(args) == 0 {
			break
		}
		rest, args = append(rest, args[0]), args[1:]
	}
	for _, check := range f.checks {
		if err := check(); err != nil {
			return nil, err
		}
	}
	return rest, nil
}
