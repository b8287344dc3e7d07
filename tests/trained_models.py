"""Small nets that passes which train must cope with, as the user's own code; and the same as artifacts."""

from __future__ import annotations

from pathlib import Path

from steelyard.records import Contract, SubjectSpec
from steelyard.subject.artifact import Artifact

HEAD = """
import torch
from torch import nn
from steelyard import Contract, Subject

LABELS = tuple("0123456789")
PICTURES = Contract(shape=(3, 32, 32), labels=LABELS)
DIGITS = Contract(shape=(1, 8, 8), scale=1 / 255, mean=(0.3,), std=(0.35,), labels=LABELS)
TOKENS = Contract(shape=(16,), layout="T", dtype="int64", labels=LABELS)

def made(model, contract, **more):
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter)
    return Subject(model=model.eval(), contract=contract, **more)
"""

CODE = {
    "resnet": """
def subject():
    import torchvision
    return made(torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=10), PICTURES)
""",
    "resnet18": """
def subject():
    import torchvision
    return made(torchvision.models.resnet18(num_classes=10), PICTURES)
""",
    "mobilenet": """
def subject():
    import torchvision
    return made(torchvision.models.mobilenet_v2(num_classes=10, width_mult=0.5), PICTURES)
""",
    "encoder": """
class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        self.position = nn.Parameter(torch.zeros(1, 16, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.1)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 10)

    def forward(self, tokens):
        return self.head(self.encoder(self.embed(tokens) + self.position).mean(dim=1))

def subject():
    return made(Encoder(), TOKENS)
""",
    "own_attention": """
class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.num_heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        n, t, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.num_heads, c // self.num_heads).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(n, t, c))

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.num_heads = 4
        self.attention = Attention(32, 4)
        self.norm1, self.norm2 = nn.LayerNorm(32), nn.LayerNorm(32)
        self.mlp = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        self.block = Block()
        self.head = nn.Linear(32, 10)

    def forward(self, tokens):
        return self.head(self.block(self.embed(tokens)).mean(dim=1))

def subject():
    return made(Net(), TOKENS)
""",
    "shared_module": """
class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.again = nn.Conv2d(16, 16, 3, padding=1)
        self.wide = nn.Conv2d(16, 32, 3, padding=1)
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        x = torch.relu(self.again(torch.relu(self.again(torch.relu(self.first(x))))))
        return self.head(torch.relu(self.wide(x)).mean(dim=(2, 3)))

def subject():
    return made(Twice(), DIGITS)
""",
    "tied": """
class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        self.one, self.two = nn.Linear(32, 32), nn.Linear(32, 32)
        self.two.weight = self.one.weight
        self.mlp = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32))
        self.head = nn.Linear(32, 10)

    def forward(self, tokens):
        x = self.embed(tokens)
        return self.head(self.mlp(torch.relu(self.two(torch.relu(self.one(x))))).mean(dim=1))

def subject():
    return made(Tied(), TOKENS)
""",
    "writes": """
class Writes(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = self.first(x)
        x = x * 1.0
        x[:, :4] = x[:, :4].relu()
        return self.head(self.second(x).mean(dim=(2, 3)))

def subject():
    return made(Writes(), DIGITS)
""",
    "spelled_out": """
class SpelledOut(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16 * 64, 10)

    def forward(self, x):
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))).view(-1, 16 * 64))

def subject():
    return made(SpelledOut(), DIGITS)
""",
}

_CONTRACTS = {
    "resnet": Contract(shape=(3, 32, 32), labels=tuple("0123456789")),
    "encoder": Contract(shape=(16,), layout="T", dtype="int64", labels=tuple("0123456789")),
    "digits": Contract(shape=(1, 8, 8), scale=1 / 255, mean=(0.3,), std=(0.35,), labels=tuple("0123456789")),
}
_TAKES = {"resnet": ("resnet", "resnet18", "mobilenet"), "encoder": ("encoder", "own_attention", "tied")}


def contract_of(name: str) -> Contract:
    """What a net takes."""
    return _CONTRACTS[next((kind for kind, names in _TAKES.items() if name in names), "digits")]


def artifact(folder: Path, name: str, *, code: str = "") -> Artifact:
    """One of the nets as the baseline's folder holds it; `code` comes after its own."""
    from steelyard.subject.load import load_subject
    from steelyard.subject.safe import save_weights

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}_subject.py"
    path.write_text(HEAD + CODE[name] + code, encoding="utf-8")
    spec = SubjectSpec(source=str(path))
    save_weights(load_subject(spec).model, folder / "weights.pt")
    return Artifact(folder=folder, engine="eager", file="weights.pt", contract=contract_of(name), spec=spec)
