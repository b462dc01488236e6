"""The published networks: what they compute, and what each must do as a fusion network."""

import copy

import pytest
import torch
from helpers import build_model, pair_batch, tiny_segformer
from model_converters.fusion_zoo import convert
from test_fusion.fusion_nets import pair
from test_fusion.zoo_fixtures import FILES, Fixture
from test_fusion.zoo_textbook import TEXTBOOK

from paif_mm.evaluation.flops import count_flops
from paif_mm.fusion import NETWORKS
from paif_mm.fusion.zoo.blocks import RULES
from paif_mm.registry import ATTACKS, MODELS, build

#: Parameters of each network, and of each form that differs.
PARAMETERS = {
    ('U2Fusion', ''): 659_217,
    ('U2Fusion', 'variant=paif'): 659_217,
    ('DIDFuse', ''): 260_935,
    ('DIDFuse', 'variant=paif'): 260_935 + 111_938,
    ('SDNet', ''): 28_705,
    ('SDNet', 'variant=paif'): 28_705,
    ('SeAFusion', ''): 166_883 - 226,  # without the batch norms that it does not use
    ('ReCoNet', ''): 7_527,
    ('ReCoNet', 'variant=paif'): 3_589,
    ('UMFusion', ''): 629_253,
    ('TarDAL', ''): 296_577,
    ('DenseFuse', ''): 74_193,
    ('DenseFuse', 'rule=l1'): 74_193,
    ('IFCNN', ''): 83_587,
    ('SAGE', ''): 135_617,
}
TOLERANCE = 1e-4  # of outputs, from what the authors' networks gave


def network(name: str, form: str = '', dtype: torch.dtype = torch.float64, **settings) -> torch.nn.Module:
    """In eval mode, with batch norms whose statistics are not trivial."""
    torch.manual_seed(0)
    settings |= dict([form.split('=')]) if form else {}
    net = NETWORKS[name](**settings).to(dtype).eval()
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.normal_(layer.bias, 0, 0.1)
    return net


@pytest.fixture(params=PARAMETERS, ids=' '.join)
def form(request) -> tuple[str, str]:
    return request.param


def released(name: str, fixture: Fixture) -> dict[str, torch.Tensor]:
    """Weights as they are in the authors' files."""
    weights = fixture.weights()
    if name == 'DIDFuse':  # two files
        return {**fixture.weights('encoder.'), **fixture.weights('decoder.')}
    return {key: value for key, value in weights.items() if not key.startswith('new.')}


@pytest.mark.realdata
@pytest.mark.parametrize('name', FILES)
@torch.no_grad()
def test_output_equals_the_authors_network(name):
    fixture = Fixture(name)
    net, _ = convert(name, released(name, fixture))
    torch.testing.assert_close(net.eval()(fixture['ir'], fixture['vis']), fixture['fused'], rtol=0, atol=TOLERANCE)


@pytest.mark.realdata
@torch.no_grad()
def test_sdnet_decomposes_as_the_authors():
    fixture = Fixture('SDNet')
    net, settings = convert('SDNet', fixture.weights())
    assert settings == {'decomposition': True}
    found = net.eval().decompose(net(fixture['ir'], fixture['vis']))
    for image, name in zip(found, ('decomposed_ir_raw', 'decomposed_vis_raw'), strict=True):
        torch.testing.assert_close(2 * image - 1, fixture[name], rtol=0, atol=TOLERANCE)


@pytest.mark.realdata
@torch.no_grad()
def test_each_recurrence_of_reconet_equals_the_authors():
    fixture = Fixture('ReCoNet')
    net, _ = convert('ReCoNet', released('ReCoNet', fixture))
    ir, vis, steps = fixture['ir'], fixture['vis'], fixture['steps'].split(1, 1)
    fused = torch.maximum(ir, vis)
    assert torch.equal(fused, steps[0])
    for expected in steps[1:]:
        fused = net.eval().step(ir, vis, fused)
        torch.testing.assert_close(fused, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.realdata
@torch.no_grad()
def test_the_later_fuser_of_reconet_equals_the_authors():
    fixture = Fixture('ReCoNet')
    net, settings = convert('ReCoNet', fixture.weights('new.'))
    assert settings == {'variant': 'paif'}
    torch.testing.assert_close(net(fixture['ir'], fixture['vis']), fixture['new/fused'], rtol=0, atol=TOLERANCE)


TEXTBOOK_FORMS = [form for form in PARAMETERS if form[0] in TEXTBOOK and 'rule' not in form[1]]


@pytest.mark.parametrize('train', [False, True], ids=['eval', 'train'])
@pytest.mark.parametrize(('name', 'form'), TEXTBOOK_FORMS, ids=map(' '.join, TEXTBOOK_FORMS))
def test_output_and_gradients_equal_the_textbook(name, form, train):
    net, inputs = network(name, form).train(train), pair(2, 1, 13, 10)
    results = []
    for compute in (net, lambda *images: TEXTBOOK[name](net, *images)):
        images = [image.clone().requires_grad_() for image in inputs]
        fused = compute(*images)
        loss = (fused * torch.linspace(-1, 1, fused.numel(), dtype=fused.dtype).view_as(fused)).sum()
        results.append([fused.detach(), *torch.autograd.grad(loss, [*images, *net.parameters()])])
    for ours, theirs in zip(*results, strict=True):
        assert (ours - theirs).abs().max() <= 1e-9 * max(1, theirs.abs().max())


def test_two_encoders_alike_are_one():
    one, two = network('DIDFuse', rule='average'), network('DIDFuse', 'variant=paif')
    state = one.state_dict()
    two.load_state_dict({**state, **{key.replace('encoders.0', 'encoders.1'): value for key, value in state.items()}})
    ir, vis = pair(1, 1, 9, 8)
    torch.testing.assert_close(two(ir, vis), one(ir, vis))
    two.encoders[1].shallow[0].norm.bias.data += 0.1  # of the visible image
    assert not torch.allclose(two(ir, vis), one(ir, vis))
    torch.testing.assert_close(two.reconstruct(ir, 'ir'), one.reconstruct(ir, 'ir'))
    assert not torch.allclose(two.reconstruct(vis, 'vis')[0], one.reconstruct(vis, 'vis')[0])


def test_parameters_are_as_many_as_published(form):
    assert sum(p.numel() for p in network(*form).parameters()) == PARAMETERS[form]


def test_sdnet_with_its_decomposition_has_the_published_count():
    assert sum(p.numel() for p in NETWORKS['SDNet'](decomposition=True).parameters()) == 67_091


@pytest.mark.parametrize(
    ('name', 'gmac'),
    {
        'U2Fusion': 202,
        'DIDFuse': 114,
        'SeAFusion': 51,
        'SDNet': 8.8,
        'ReCoNet': 6.4,
        'UMFusion': 193,
        'TarDAL': 91,
    }.items(),
)
@torch.no_grad()
def test_multiply_adds_are_as_many_as_published(name, gmac):
    """At 480x640, 400 times as many pixels as here."""
    net = network(name, dtype=torch.float32)
    with count_flops() as counter:
        net(*pair(1, 1, 24, 32, dtype=torch.float32))
    assert counter.get_total_flops() / 2 * 400 / 1e9 == pytest.approx(gmac, rel=0.01)


@pytest.mark.parametrize('size', [(1, 1), (1, 7), (5, 3), (17, 30)], ids=str)
@torch.no_grad()
def test_any_size_gives_a_contiguous_image_of_that_size(form, size):
    net, (ir, vis) = network(*form, dtype=torch.float32), pair(2, 1, *size, dtype=torch.float32)
    fused = net(ir, vis)
    assert fused.shape == ir.shape
    assert fused.is_contiguous()
    assert fused.isfinite().all()


@torch.no_grad()
def test_input_layout_does_not_matter(form):
    net, (ir, vis) = network(*form), pair(2, 1, 12, 10)
    slices = torch.cat([ir, vis], 1)
    expected = net(ir, vis)
    torch.testing.assert_close(net(slices[:, :1], slices[:, 1:]), expected)
    turned = (image.to(memory_format=torch.channels_last) for image in (ir, vis))
    torch.testing.assert_close(net.to(memory_format=torch.channels_last)(*turned), expected)


@torch.no_grad()
def test_a_sample_does_not_depend_on_its_batch(form):
    net, (ir, vis) = network(*form), pair(3, 1, 12, 9)
    single = torch.cat([net(ir[i : i + 1], vis[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(net(ir, vis), single, rtol=0, atol=1e-12)


def test_training_reaches_both_images_and_every_parameter(form):
    net, images = network(*form).train(), [image.requires_grad_() for image in pair(2, 1, 12, 10)]
    before = copy.deepcopy(net.state_dict())
    net(*images).square().sum().backward()
    assert all(value.grad.isfinite().all() and value.grad.abs().sum() > 0 for value in [*images, *net.parameters()])
    moved = {key for key, value in net.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {key for key in before if 'running' in key or 'num_batches' in key}


def test_overwriting_changes_no_derivative(form):
    """First and second, as meta-learning takes them, are those of layers that leave their input as it is."""
    net, images = network(*form), [image.requires_grad_() for image in pair(1, 1, 8, 7)]
    plain = copy.deepcopy(net)
    for layer in plain.modules():
        if getattr(layer, 'inplace', False):
            layer.inplace = False
    results = []
    for each in (net, plain):
        wanted = [*images, *each.parameters()]
        first = torch.autograd.grad(each(*images).square().sum(), wanted, create_graph=True)
        second = torch.autograd.grad(sum(gradient.square().sum() for gradient in first), wanted)
        assert all(gradient.abs().sum() > 0 for gradient in second[:2])
        results.append([*first, *second])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('train', [False, True], ids=['eval', 'train'])
def test_autocast_stays_close_to_single_precision(form, train):
    net, (ir, vis) = network(*form, dtype=torch.float32).train(train), pair(2, 1, 16, 12, dtype=torch.float32)
    expected = net(ir, vis)
    with torch.autocast('cpu', torch.bfloat16):
        fused = net(ir, vis)
    fused.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    assert (fused.float() - expected).abs().mean() < 0.02


@pytest.mark.parametrize('name', ['U2Fusion', 'IFCNN', 'SAGE'])  # which look at their borders, or at two sizes
@torch.no_grad()
def test_a_traced_network_takes_other_sizes(name):
    net = network(name)
    traced = torch.jit.trace(net, pair(1, 1, 16, 12))
    ir, vis = pair(2, 1, 9, 20)
    torch.testing.assert_close(traced(ir, vis), net(ir, vis))


def test_it_fuses_for_a_model_and_is_attacked_through(form):
    name, setting = form
    settings = dict([setting.split('=')]) if setting else {}
    model = build_model(tiny_segformer({'type': name, **settings})).eval()
    batch = pair_batch([(32, 40)])
    attack = build(ATTACKS, {'type': 'PGD', 'eps': 8 / 255, 'steps': 2})
    attacked = attack(model, batch).images[0]
    distance = (attacked - batch['inputs'][0].float()).abs()
    assert distance.max() <= 8 + 1e-3
    assert all(distance[channel].max() > 4 for channel in (0, 3))  # blue and infrared: through both inputs
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize('name', NETWORKS)
def test_compiled_network_equals_plain_one(name):
    plain, compiled = (network(name, dtype=torch.float32, compile=c) for c in (False, True))
    results = []
    for net in (plain.train(), compiled.train()):
        images = [image.requires_grad_() for image in pair(2, 1, 17, 20, dtype=torch.float32)]
        fused = net(*images)
        gradients = torch.autograd.grad(fused.square().sum(), [*images, *net.parameters()])
        results.append([fused.detach(), torch.cat([gradient.flatten() for gradient in gradients])])
    for a, b in zip(*results, strict=True):  # all at once: those of biases before a batch norm are 0 but for noise
        assert (a - b).norm() <= 1e-3 * b.norm()
    for shape in [(1, 1, 17, 20), (1, 1, 26, 31)]:
        with torch.no_grad():
            a, b = (net.eval()(*pair(*shape, dtype=torch.float32)) for net in (plain, compiled))
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ('name', 'settings', 'message'),
    [
        ('U2Fusion', {'variant': 'release'}, "variant must be one of original, paif, not 'release'"),
        ('DIDFuse', {'rule': 'max'}, "rule must be one of sum, average, l1, not 'max'"),
        ('IFCNN', {'rule': 'min'}, "rule must be one of max, sum, average, l1, not 'min'"),
        ('SDNet', {'variant': 'paif', 'decomposition': True}, "decomposition: SDNet's variant 'paif' has none"),
        ('ReCoNet', {'steps': 0}, 'steps must be at least 1, not 0'),
    ],
    ids=['variant', 'rule', 'own rule', 'decomposition', 'steps'],
)
def test_bad_settings_are_named(name, settings, message):
    with pytest.raises(ValueError, match=message):
        build(MODELS, {'type': name, **settings})


def test_the_l1_rule_weighs_by_activity():
    """Features of one constant: shares of |a| / (|a| + |b|); none at all: any share gives 0."""
    ir, vis = torch.full((1, 4, 3, 5), 3.0), torch.full((1, 4, 3, 5), -1.0)
    torch.testing.assert_close(RULES['l1'](ir, vis), torch.full((1, 4, 3, 5), 3 * 3 / 4 - 1 / 4))
    assert torch.equal(RULES['l1'](0 * ir, 0 * vis), torch.zeros(1, 4, 3, 5))
