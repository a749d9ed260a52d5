"""fathom chat: on a pipe a line is a message and nothing else is printed; on a terminal there are a prompt and colours."""

import json
import os
import pty
import select
import signal
import subprocess
import time
import unittest

import support
from support import CommandLineCase

CHAT = ("-t", 1, "--seed", 3)
INTERRUPT_KEY, END_KEY = b"\x03", b"\x04"


class Pipe(CommandLineCase):
    def chat(self, *lines, arguments=(), **options):
        text = "".join(f"{line}\n" for line in lines)
        return support.run("chat", support.tiny_model(), *CHAT, *arguments, stdin=text, **options)

    def saved(self, *lines, arguments=()):
        """The messages of the conversation after these lines."""
        path = support.fresh_directory() / "conversation.json"
        self.assert_success(self.chat(*lines, f"/save {path}", arguments=arguments))
        return json.loads(path.read_text())["messages"]

    def test_answers_are_all_that_is_printed(self):
        path = support.fresh_directory() / "c.json"
        done = self.chat("Hello!", "What is 2 + 3?", f"/save {path}")
        self.assert_success(done)
        self.assertEqual(done.stderr, f"Saved 4 messages to {path}.\n")
        messages = json.loads(path.read_text())["messages"]
        self.assertEqual([m["role"] for m in messages], ["user", "assistant"] * 2)
        self.assertEqual([m["content"] for m in messages[::2]], ["Hello!", "What is 2 + 3?"])
        answers = [m["content"] for m in messages[1::2]]
        self.assertEqual(done.stdout, "".join(a + "\n" for a in answers))

    def test_a_conversation_repeats_with_its_seed(self):
        lines = ("Hello!", "What do cows give us?", "Thank you!")
        first, again = self.chat(*lines), self.chat(*lines)
        self.assert_success(first)
        self.assertEqual(first.stdout, again.stdout)

    def test_a_later_turn_is_what_generate_makes_of_the_whole_conversation(self):
        """The turns before it were kept in the cache; generate computes them anew."""
        model = support.tiny_model()
        messages = self.saved("Hello!", "What do cows give us?", arguments=("--system", "Be kind.", "--temp", 0))
        self.assertEqual([m["role"] for m in messages], ["system", "user", "assistant", "user", "assistant"])
        prompt = "<｜begin▁of▁sentence｜>Be kind."
        for m in messages[1:-1]:
            prompt += f"<｜User｜>{m['content']}" if m["role"] == "user" else f"<｜Assistant｜>{m['content']}<｜end▁of▁sentence｜>"
        result = self.generate_json(model, "-p", prompt + "<｜Assistant｜>", "--temp", 0, "-t", 1, "-n", 512)
        self.assertEqual(result["text"], messages[-1]["content"])

    def test_the_input_may_end_without_a_newline(self):
        done = support.run("chat", support.tiny_model(), *CHAT, stdin="Hello!")
        self.assert_success(done)
        self.assertEqual(done.stdout, self.chat("Hello!").stdout)

    def test_empty_lines_and_an_empty_input_say_nothing(self):
        for lines in ((), ("", "")):
            done = self.chat(*lines)
            self.assert_success(done)
            self.assertEqual((done.stdout, done.stderr), ("", ""))

    def test_exit_ends_before_the_next_line(self):
        for command in ("/exit", "/quit"):
            done = self.chat(command, "Hello!")
            self.assert_success(done)
            self.assertEqual(done.stdout, "")

    def test_reset_keeps_the_system_message_and_forgets_the_rest(self):
        self.assertEqual(self.saved("Hello!", "/reset"), [])
        self.assertEqual(self.saved("/system Be kind.", "Hello!", "/reset"), [{"role": "system", "content": "Be kind."}])
        first, fresh = self.chat("Hello!"), self.chat("What is ice?")
        after_reset = self.chat("Hello!", "/reset", "What is ice?")
        self.assertEqual(after_reset.stdout, first.stdout + fresh.stdout)
        self.assertEqual(after_reset.stderr, "The conversation starts over.\n")

    def test_system_starts_over_with_the_message(self):
        by_command = self.saved("Hi!", "/system Be kind.", "Hello!")
        self.assertEqual(by_command, self.saved("Hello!", arguments=("--system", "Be kind.")))
        self.assertEqual(self.saved("/system Be kind.", "/system"), [])

    def test_a_saved_conversation_goes_on_after_load(self):
        path = support.fresh_directory() / "c.json"
        whole = self.chat("Hello!", f"/save {path}", "What is ice?")
        self.assert_success(whole)
        loaded = self.chat(f"/load {path}", "What is ice?")
        self.assertEqual(loaded.stderr, "Loaded 2 messages.\n")
        self.assertEqual(self.chat("Hello!").stdout + loaded.stdout, whole.stdout)

    def test_help_lists_the_commands(self):
        done = self.chat("/help")
        self.assert_success(done)
        for command in ("/reset", "/system", "/save", "/load", "/exit"):
            self.assertIn(command, done.stderr)

    def test_a_mistaken_command_ends_a_pipe(self):
        directory = support.fresh_directory()
        (directory / "list.json").write_text("[1]")
        (directory / "numbers.json").write_text('{"messages": [1]}')
        (directory / "broken.json").write_text('{"messages": [')
        for command, needle in (("/unknown", "/unknown"), ("/save", "file name"), ("/load", "file name"),
                                (f"/load {directory}/absent", "absent"), (f"/load {directory}/list.json", "messages"),
                                (f"/load {directory}/numbers.json", '"role"'), (f"/load {directory}/broken.json", "broken"),
                                ("/save /no/such/place", "/no/such/place"), (b"/system caf\xe9", "system message")):
            with self.subTest(command=command):
                line = command if isinstance(command, bytes) else command.encode()
                done = support.run("chat", support.tiny_model(), *CHAT, stdin=line + b"\nHello!\n")
                self.assert_refused(done, needle)
                self.assertEqual(done.stdout, "")

    def test_a_full_context_is_said(self):
        done = self.chat("Hello, how are you today?", arguments=("-c", 24))
        self.assert_success(done)
        self.assertEqual(done.stderr, "[the context is full at 24 tokens: the answer was cut; /reset starts over]\n")
        done = self.chat("Hello, how are you today?", "And you?", arguments=("-c", 24))
        self.assertEqual(done.returncode, 2)
        self.assertIn("this message was not sent, /reset starts over", done.stderr)

    def test_a_cut_answer_is_said(self):
        done = self.chat("Hello!", arguments=("-n", 1))
        self.assert_success(done)
        self.assertEqual(done.stderr, "[cut at --max-tokens 1]\n")

    def test_what_cannot_be_answered_ends_a_pipe(self):
        directory = support.fresh_directory()
        (directory / "tool.json").write_text('{"messages": [{"role": "tool", "content": "x"}]}')
        done = self.chat(f"/load {directory}/tool.json", "Hello!")
        self.assertEqual(done.returncode, 2)
        self.check_error_line(done.stderr.split("\n", 1)[1], "role tool is unknown")
        done = support.run("chat", support.tiny_model(), *CHAT, stdin=b"caf\xe9\nHello!\n")
        self.assert_refused(done, "the message", "UTF-8", "offset 3")

    def test_a_model_without_a_chat_template_is_refused(self):
        model = support.copy_of_model()
        support.edit_json(model / "tokenizer_config.json", chat_template=None)
        done = support.run("chat", model, stdin="Hello!\n")
        self.assert_refused(done, model, "chat template", "fathom generate")

    def test_ctrl_c_while_answering_ends_with_one_line(self):
        model = support.endless_model("f32")
        process = support.start("chat", model, *CHAT, stdin=subprocess.PIPE)
        process.stdin.write("Hello!\n" * 200)  # answers of hundreds of tokens each
        process.stdin.flush()
        process.stdout.read(1)  # it answers
        support.interrupt(process)
        _, stderr = process.communicate(timeout=support.TIMEOUT_S)
        self.assertEqual(process.returncode, 2)
        self.check_error_line(stderr, "interrupted while")

    def test_ctrl_c_while_waiting_ends_with_one_line(self):
        process = support.start("chat", support.tiny_model(), *CHAT, stdin=subprocess.PIPE)
        process.stdin.write("Hello!\n")
        process.stdin.flush()
        process.stdout.readline()  # the answer: now it waits for the next line
        support.interrupt(process, signal.SIGTERM)
        # The pipe stays open: the signal alone ends the program.
        self.assertEqual(process.wait(timeout=support.TIMEOUT_S), 2)
        self.check_error_line(process.stderr.read(), "interrupted while")
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()


class Terminal(CommandLineCase):
    """The program on a pseudo-terminal."""

    def open(self, model, *arguments, env=None):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen([support.BINARY, "chat", str(model), *map(str, CHAT), *map(str, arguments)],
                                        stdin=slave, stdout=slave, stderr=slave, env=env or support.environment(),
                                        start_new_session=True, preexec_fn=take_terminal)
        os.close(slave)
        self.addCleanup(self.close)
        self.seen = b""

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)

    def read_until(self, text, timeout=60):
        """Everything up to and with `text`; fails when it does not come."""
        end = time.monotonic() + timeout
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], 0.2)
            try:
                piece = os.read(self.master, 65536) if ready else None
            except OSError:  # the other side is closed
                piece = b""
            if piece:
                self.seen += piece
            elif piece == b"" or time.monotonic() > end:
                self.fail(f"waited for {text!r}, saw {self.seen!r}")
        found, self.seen = self.seen.split(text, 1)
        return (found + text).decode(errors="replace")

    def type(self, data):
        os.write(self.master, data)

    def test_prompt_answer_and_colours(self):
        prompt = b"\x1b[1;36m> \x1b[0m"
        self.open(support.tiny_model())
        greeting = self.read_until(prompt)
        self.assertIn("context 512 tokens", greeting)
        self.assertIn("\x1b[2m", greeting)
        self.type(b"Hello!\n")
        answered = self.read_until(prompt)
        expected = support.made("chat", support.tiny_model(), *CHAT, stdin="Hello!\n").stdout
        self.assertNotIn("\x1b", expected)
        self.assertIn(expected.strip(), answered.replace("\r\n", "\n"))
        self.type(b"/reset\n")
        self.assertIn("\x1b[2mThe conversation starts over.\x1b[0m", self.read_until(prompt))
        self.type(END_KEY)
        self.assertEqual(self.process.wait(timeout=30), 0)

    def check_plain(self, **changes):
        self.open(support.tiny_model(), env=support.environment(**changes))
        self.assertNotIn("\x1b", self.read_until(b"> "))
        self.type(END_KEY)
        self.assertEqual(self.process.wait(timeout=30), 0)

    def test_no_color_refuses_colours(self):
        self.check_plain(NO_COLOR=1)

    def test_a_dumb_terminal_gets_no_colours(self):
        self.check_plain(TERM="dumb")

    def test_ctrl_c_stops_the_answer_and_keeps_the_conversation(self):
        prompt = b"\x1b[1;36m> \x1b[0m"
        self.open(support.endless_model("f32"), "--mla", "naive")
        self.read_until(prompt)
        self.type(b"Hello!\n")
        self.read_until(b"Hello!\r\n")  # the echo of what was typed
        while not self.seen:
            self.seen += os.read(self.master, 1)  # the answer has begun
        self.type(INTERRUPT_KEY)
        self.read_until(b"[stopped]")
        self.read_until(prompt)
        self.type(b"/help\n")
        self.read_until(b"/reset")
        self.read_until(prompt)
        self.type(INTERRUPT_KEY)
        self.assertIn("interrupted while waiting for input", self.read_until(b"input\r\n"))
        self.assertEqual(self.process.wait(timeout=30), 2)

    def test_a_line_that_cannot_be_followed_ends_nothing(self):
        prompt = b"\x1b[1;36m> \x1b[0m"
        self.open(support.tiny_model())
        self.read_until(prompt)
        self.type(b"/unknown\n")
        self.assertIn("fathom:\x1b[0m unknown command /unknown", self.read_until(prompt))
        self.type(b"caf\xe9\n")
        self.assertIn("fathom:\x1b[0m the message is not valid UTF-8", self.read_until(prompt))
        self.type(END_KEY)
        self.assertEqual(self.process.wait(timeout=30), 0)


def take_terminal():
    """Makes standard input the controlling terminal, so that its keys send signals."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


if __name__ == "__main__":
    unittest.main()
