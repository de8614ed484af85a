"""The front end's own part."""

import gzip
import http.client
import urllib.parse

from client import URL, get, send


def connection():
    return http.client.HTTPConnection(urllib.parse.urlsplit(URL).netloc, timeout=30)


def test_the_page_and_its_files():
    page = get("/")
    assert page.status == 200 and b"<h1>Tasks</h1>" in page.body
    assert page.headers["content-security-policy"] == "default-src 'self'"
    for path, kind in [("/static/page.css", "text/css"), ("/static/page.js", "text/javascript")]:
        assert get(path).headers["content-type"] == kind


def test_compressed_files():
    plain = get("/static/page.js")
    compressed = send("GET", "/static/page.js", headers={"accept-encoding": "gzip"})
    assert gzip.decompress(compressed.body) == plain.body


def test_nothing_else_is_served():
    for path in ["/static/../server.js", "/static/%2e%2e/server.js", "/static/", "/server.js", "/static/page.js%00"]:
        assert get(path).status == 404
    assert send("DELETE", "/").status == 405


def test_a_large_body_is_refused():
    client = connection()
    client.putrequest("POST", "/api/tasks")
    client.putheader("content-length", str(10**9))
    client.endheaders()
    assert client.getresponse().status == 413


def test_a_body_without_length_is_refused():
    client = connection()
    client.request("POST", "/api/tasks", body=iter([b"{}"]), encode_chunked=True)
    assert client.getresponse().status == 411


def test_a_client_that_goes_away():
    for _ in range(5):
        client = connection()
        client.putrequest("POST", "/api/tasks")
        client.putheader("content-length", "1000")
        client.endheaders()
        client.send(b'{"title": ')
        client.close()
    assert get("/api/health").status == 200
