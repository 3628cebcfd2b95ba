"""A headless Chromium that is spoken to over a pipe, in the DevTools protocol."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections import deque
from pathlib import Path

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
    "--window-size=1500,2000",
)


def executable():
    """Find Chromium, or give None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def _stroke(points, first, between, last):
    yield first, points[0]
    yield from ((between, point) for point in points)
    yield last, points[-1]


class Browser:
    """One page in a browser of its own: `answers` maps the addresses it may ask for to the bytes of a script.

    It may ask for all that `site`, a server on this machine, has.

    Attributes
    ----------
    console : list of (level, text)
        What the page said, errors that nobody caught among it.
    refused : list of str
        Addresses beyond `answers`, `site` and local files.
    """

    def __init__(self, answers, profile: Path, seconds=120, site="file:"):
        self.answers, self.console, self.refused = answers, [], []
        self._allowed = ("file:", "data:", site)
        self._deadline = time.monotonic() + seconds
        self._number, self._events, self._rest = 0, deque(), b""
        hears, self._writes = os.pipe()
        self._reads, says = os.pipe()
        # The protocol is spoken on file descriptors 3 and 4.
        command = ["bash", "-c", f'exec "$@" 3<&{hears} 4>&{says}', "bash", executable(), *FLAGS]
        self._process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}", "about:blank"], pass_fds=(hears, says), stderr=subprocess.DEVNULL
        )
        os.close(hears)
        os.close(says)
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Fetch.enable", patterns=[{"urlPattern": "*"}])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self._session = None
            self._send("Browser.close", {})
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._writes)
        os.close(self._reads)

    def call(self, method, **params):
        """Call a method of the protocol and give its result; events that come before it are handled."""
        number = self._send(method, params)
        while True:
            message = self._receive()
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]

    def open(self, page: Path | str):
        """Open a local page, or one at an address, and wait until it is loaded."""
        self._events.clear()
        self.call("Page.navigate", url=page if isinstance(page, str) else page.resolve().as_uri())
        while "Page.loadEventFired" not in self._events:
            self._receive()

    def evaluate(self, expression):
        """Give the value of a JavaScript expression, or of its promise."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"].get("description", expression))
        return result["result"].get("value")

    def wait_for(self, expression):
        """Wait until a JavaScript expression is true, and give its value."""
        while not (value := self.evaluate(expression)):
            if time.monotonic() > self._deadline:
                raise RuntimeError(f"never true: {expression}")
            time.sleep(0.05)
        return value

    def drag(self, points):
        """Press the mouse's button, move it over points (x, y) of the window, and let it go."""
        for kind, (x, y) in _stroke(points, "mousePressed", "mouseMoved", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def swipe(self, points):
        """Move a finger over points (x, y) of the window."""
        for kind, (x, y) in _stroke(points, "touchStart", "touchMove", "touchEnd"):
            fingers = [] if kind == "touchEnd" else [{"x": x, "y": y}]
            self.call("Input.dispatchTouchEvent", type=kind, touchPoints=fingers)

    def press(self, key, code=0):
        """Press a key and let it go; `code` is its virtual one, which Chromium itself goes by."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code)

    def drop(self, path: Path, x, y):
        """Let go of a file over the window."""
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def choose(self, selector, path: Path):
        """Give a file to an input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def _send(self, method, params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._writes, data) :]
        return self._number

    def _receive(self):
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._reads], [], [], max(0, self._deadline - time.monotonic()))
            data = os.read(self._reads, 1 << 20) if ready else b""
            if not data:
                raise RuntimeError("Chromium does not answer" if not ready else "Chromium ended early")
            self._rest += data
        line, self._rest = self._rest.split(b"\0", 1)
        message = json.loads(line)
        self._handle(message.get("method"), message.get("params", {}))
        return message

    def _handle(self, event, params):
        self._events.append(event)
        if event == "Fetch.requestPaused":
            self._answer(params["requestId"], params["request"]["url"])
        elif event == "Runtime.consoleAPICalled":
            text = " ".join(str(argument.get("value", argument.get("description"))) for argument in params["args"])
            self.console.append((params["type"], text))
        elif event == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.console.append(("error", details.get("exception", {}).get("description", details["text"])))
        elif event == "Log.entryAdded":
            self.console.append((params["entry"]["level"], params["entry"]["text"]))

    def _answer(self, request, url):
        if url in self.answers:
            headers = [{"name": "Content-Type", "value": "text/javascript; charset=utf-8"}]
            body = base64.b64encode(self.answers[url]).decode()
            self._send(
                "Fetch.fulfillRequest",
                {"requestId": request, "responseCode": 200, "responseHeaders": headers, "body": body},
            )
        elif url.startswith(self._allowed):
            self._send("Fetch.continueRequest", {"requestId": request})
        else:
            self.refused.append(url)
            self._send("Fetch.failRequest", {"requestId": request, "errorReason": "AccessDenied"})
