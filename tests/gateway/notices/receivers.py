"""Real listeners for notices: an MLLP receiver and a mail server, on sockets, that can be down, slow and rude."""

import base64
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage


class Listener:
    """Serves each connection in a thread; can be taken down and put up again on its port."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self._socket: socket.socket | None = None
        self._threads: list[threading.Thread] = []

    def up(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", self.port))
        self._socket.settimeout(0.05)
        self.port = int(self._socket.getsockname()[1])
        listening = threading.Thread(target=self._listen, args=(self._socket,))
        listening.start()
        self._threads.append(listening)

    def down(self) -> None:
        if self._socket is not None:
            listening, self._socket = self._socket, None
            for thread in self._threads:
                thread.join()
            self._threads.clear()
            listening.close()

    def _listen(self, listening: socket.socket) -> None:
        while self._socket is listening:
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                continue
            self.connections += 1
            connection.settimeout(5)
            thread = threading.Thread(target=self._guarded, args=(connection,))
            thread.start()
            self._threads.append(thread)

    def _guarded(self, connection: socket.socket) -> None:
        try:
            self.serve(connection)
        except OSError:
            pass  # whoever leaves is meant to
        finally:
            connection.close()

    def serve(self, connection: socket.socket) -> None:
        raise NotImplementedError


class MllpReceiver(Listener):
    """Acknowledges each message with what `answer` says for its MSH-10; None closes the connection."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self.tls = tls
        self.messages: list[str] = []
        self.answer: Callable[[str], bytes | None] = lambda control_id: self.ack("AA", control_id)
        self.delay = 0.0

    @staticmethod
    def ack(code: str, control_id: str) -> bytes:
        head = "MSH|^~\\&|HIS|H|SCANWARDEN||20261120120000||ACK^R01^ACK|A1|P|2.5.1"
        return f"\x0b{head}\rMSA|{code}|{control_id}\r\x1c\r".encode()

    def serve(self, connection: socket.socket) -> None:
        if self.tls is not None:
            connection = self.tls.wrap_socket(connection, server_side=True)
        with connection:
            content = b""
            while not content.endswith(b"\x1c\r"):
                more = connection.recv(4096)
                if not more:
                    return
                content += more
            assert content.startswith(b"\x0b")
            message = content[1:-2].decode()
            self.messages.append(message)
            time.sleep(self.delay)
            said = self.answer(message.split("\r")[0].split("|")[9])
            if said is not None:
                connection.sendall(said)


class MailServer(Listener):
    """Takes mails; `refuse` maps a command to the reply that it gets instead."""

    def __init__(self, tls: ssl.SSLContext | None = None, login: tuple[str, str] | None = None) -> None:
        super().__init__()
        self.tls = tls
        self.login = login
        self.mails: list[EmailMessage] = []
        self.encrypted: list[bool] = []
        self.refuse: dict[str, str] = {}

    def serve(self, connection: socket.socket) -> None:
        connection.sendall(b"220 mail.test ESMTP\r\n")
        encrypted = known = False
        lines = connection.makefile("rb")
        while line := lines.readline():
            words = line.decode().strip()
            command = re.split(r"[ :]", words)[0].upper()
            if command in self.refuse:
                connection.sendall(f"{self.refuse[command]}\r\n".encode())
            elif command == "EHLO":
                offers = ["STARTTLS"] if self.tls and not encrypted else []
                offers += ["AUTH PLAIN"] if self.login and encrypted else []
                replies = ["mail.test", *offers]
                for each in replies[:-1]:
                    connection.sendall(f"250-{each}\r\n".encode())
                connection.sendall(f"250 {replies[-1]}\r\n".encode())
            elif command == "STARTTLS" and self.tls is not None:
                connection.sendall(b"220 go on\r\n")
                connection = self.tls.wrap_socket(connection, server_side=True)
                lines, encrypted = connection.makefile("rb"), True
            elif command == "AUTH":
                said = base64.b64decode(words.split(" ")[2]).decode().split("\0")[1:]
                known = self.login is not None and tuple(said) == self.login
                connection.sendall(b"235 welcome\r\n" if known else b"535 who are you\r\n")
            elif command == "MAIL" and self.login is not None and not known:
                connection.sendall(b"530 log in first\r\n")
            elif command == "DATA":
                connection.sendall(b"354 go on\r\n")
                content = b""
                while (part := lines.readline()) != b".\r\n":
                    content += part
                self.mails.append(message_from_bytes(content, policy=policy.default))
                self.encrypted.append(encrypted)
                connection.sendall(b"250 taken\r\n")
            elif command == "QUIT":
                connection.sendall(b"221 bye\r\n")
                break
            else:
                connection.sendall(b"250 ok\r\n")
        lines.close()
        connection.close()
