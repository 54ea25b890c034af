'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const still = matchMedia('(prefers-reduced-motion: reduce)');
const dark = matchMedia('(prefers-color-scheme: dark)');
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function bytes(text) {
  const raw = atob(text);
  const out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}

function decoded(cloud) {
  const stored = bytes(cloud.depth);
  const view = new DataView(stored.buffer);
  const depth = new Float32Array(cloud.width * cloud.height);
  for (let i = 0; i < depth.length; i++) depth[i] = view.getUint16(2 * i, true) * cloud.step;
  return { ...cloud, depth, colour: bytes(cloud.colour) };
}
const clouds = data.clouds.map(decoded);

/** A canvas that is turned by pointer and keys, sways by itself until touched, and sleeps out of sight. */
class Orbit {
  constructor(canvas, options, draw) {
    Object.assign(this, { canvas, draw, yaw: 0, pitch: 0, closer: 1, sway: 0, touched: still.matches, seen: false }, options);
    this.home = { yaw: this.yaw, pitch: this.pitch };
    this.fingers = new Map();
    canvas.addEventListener('pointerdown', (event) => this.down(event));
    canvas.addEventListener('pointermove', (event) => this.move(event));
    for (const end of ['pointerup', 'pointercancel']) canvas.addEventListener(end, (event) => this.fingers.delete(event.pointerId));
    canvas.addEventListener('wheel', (event) => this.wheel(event), { passive: false });
    canvas.addEventListener('keydown', (event) => this.key(event));
    canvas.addEventListener('dblclick', () => { Object.assign(this, this.home, { closer: 1 }); this.paint(); });
    new ResizeObserver(() => this.paint()).observe(canvas);
    new IntersectionObserver(([entry]) => { this.seen = entry.isIntersecting; if (this.seen) this.run(); }).observe(canvas);
    dark.addEventListener('change', () => this.paint());
  }
  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.fingers.set(event.pointerId, [event.clientX, event.clientY]);
    this.touched = true;
  }
  move(event) {
    const last = this.fingers.get(event.pointerId);
    if (!last) return;
    const now = [event.clientX, event.clientY];
    if (this.fingers.size === 1) {
      this.yaw += (now[0] - last[0]) * 0.007;
      this.pitch = Math.max(-1.5, Math.min(1.5, this.pitch + (now[1] - last[1]) * 0.007));
    } else {
      const other = [...this.fingers].find(([id]) => id !== event.pointerId)[1];
      const span = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]) || 1;
      this.approach(span(now) / span(last));
    }
    this.fingers.set(event.pointerId, now);
    this.paint();
  }
  wheel(event) {
    if (!event.ctrlKey) return;
    event.preventDefault();
    this.approach(Math.exp(-event.deltaY * 0.004));
    this.touched = true;
    this.paint();
  }
  key(event) {
    const turn = { ArrowLeft: [-0.08, 0], ArrowRight: [0.08, 0], ArrowUp: [0, -0.08], ArrowDown: [0, 0.08] }[event.key];
    const nearer = { '+': 1.12, '=': 1.12, '-': 1 / 1.12 }[event.key];
    if (!turn && !nearer) return;
    event.preventDefault();
    this.touched = true;
    if (turn) { this.yaw += turn[0]; this.pitch = Math.max(-1.5, Math.min(1.5, this.pitch + turn[1])); }
    if (nearer) this.approach(nearer);
    this.paint();
  }
  approach(factor) { this.closer = Math.max(0.4, Math.min(8, this.closer * factor)); }
  run() {
    if (this.touched || !this.seen || this.running || !this.sway) return;
    this.running = true;
    const start = performance.now() - (this.elapsed || 0);
    const tick = (now) => {
      if (this.touched || !this.seen) { this.running = false; return; }
      this.elapsed = now - start;
      this.yaw = this.home.yaw + this.sway * Math.sin(this.elapsed / 3200);
      this.paint();
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }
  paint() {
    const ratio = Math.min(devicePixelRatio || 1, this.ratio || 2);
    const width = Math.round(this.canvas.clientWidth * ratio);
    const height = Math.round(this.canvas.clientHeight * ratio);
    if (!width || !height) return;
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    this.draw(this.canvas.getContext('2d'), width, height, ratio, this);
  }
}

function quantile(values, share) {
  const sorted = Float32Array.from(values).sort();
  return sorted.length ? sorted[Math.floor(share * (sorted.length - 1))] : 0;
}

/** Points in the camera's optical frame and the place the view turns about. */
function pointsOf(cloud) {
  const xyz = [], rgb = [], size = [];
  const step = (i, k) => (k < cloud.depth.length && cloud.depth[k] ? Math.abs(cloud.depth[i] - cloud.depth[k]) : 0);
  for (let v = 0, i = 0; v < cloud.height; v++) {
    for (let u = 0; u < cloud.width; u++, i++) {
      const z = cloud.depth[i];
      if (!z) continue;
      xyz.push((u - cloud.cx) / cloud.fx * z, (v - cloud.cy) / cloud.fy * z, z);
      rgb.push(cloud.colour[3 * i], cloud.colour[3 * i + 1], cloud.colour[3 * i + 2]);
      const spacing = z / Math.min(cloud.fx, cloud.fy);   // and more where the surface is seen at a slant
      size.push(Math.min(3 * spacing, Math.hypot(spacing, Math.max(step(i, i + 1), step(i, i + cloud.width)))));
    }
  }
  const axis = (offset) => xyz.filter((_, i) => i % 3 === offset);
  const pivot = [0, 1, 2].map((offset) => quantile(axis(offset), 0.5));
  const slopes = [cloud.width / cloud.fx / 2, cloud.height / cloud.fy / 2];
  return { xyz: Float32Array.from(xyz), rgb: Uint8Array.from(rgb), size: Float32Array.from(size), pivot, slopes };
}

/** Splat points, nearest in front, each as large as the surface it stands for; unturned, it is the picture. */
function drawPoints(context, width, height, ratio, view) {
  const points = view.points;
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const near = new Float32Array(width * height).fill(Infinity);
  pixels.fill(0xff1b1815);
  if (points && points.size.length) {
    const away = points.pivot[2] * 1.12 / view.closer;
    const focal = 0.95 * Math.min(width / 2 / points.slopes[0], height / 2 / points.slopes[1]);
    const [cy, sy, cp, sp] = [Math.cos(view.yaw), Math.sin(view.yaw), Math.cos(view.pitch), Math.sin(view.pitch)];
    const [px, py, pz] = points.pivot;
    for (let i = 0, j = 0; i < points.size.length; i++, j += 3) {
      const x0 = points.xyz[j] - px, y0 = points.xyz[j + 1] - py, z0 = points.xyz[j + 2] - pz;
      const x = cy * x0 + sy * z0, z1 = cy * z0 - sy * x0;
      const y = cp * y0 - sp * z1, z = sp * y0 + cp * z1 + away;
      if (z < away * 0.05) continue;
      const scale = focal / z;
      const side = Math.max(1, Math.min(12, Math.ceil(points.size[i] * scale * 1.3)));
      const u0 = Math.round(width / 2 + x * scale - side / 2), v0 = Math.round(height / 2 + y * scale - side / 2);
      const packed = 0xff000000 | points.rgb[j + 2] << 16 | points.rgb[j + 1] << 8 | points.rgb[j];
      for (let v = Math.max(0, v0); v < Math.min(height, v0 + side); v++) {
        for (let u = Math.max(0, u0), k = v * width + u; u < Math.min(width, u0 + side); u++, k++) {
          if (z < near[k]) { near[k] = z; pixels[k] = packed; }
        }
      }
    }
  }
  context.putImageData(image, 0, 0);
}

function showCloud(figure) {
  const view = new Orbit(figure.querySelector('canvas'), { yaw: 0, pitch: 0.16, sway: 0.34, ratio: 1.5 }, drawPoints);
  const buttons = [...figure.querySelectorAll('button')];
  const choose = (number) => {
    buttons.forEach((button) => button.setAttribute('aria-pressed', String(Number(button.dataset.moment) === number)));
    view.points = pointsOf(clouds[number]);
    view.paint();
  };
  buttons.forEach((button) => button.addEventListener('click', () => choose(Number(button.dataset.moment))));
  const first = clouds.findIndex((cloud) => cloud.depth.some((depth) => depth > 0));
  choose(Math.max(0, first));
}

function niceStep(length) {
  const power = 10 ** Math.floor(Math.log10(length));
  return [1, 2, 5, 10].map((digit) => digit * power).find((step) => step >= length);
}

/** Odometry: x ahead, y left, z up; seen from behind, to the right and above. */
function showPath(figure) {
  const path = data.path;
  const all = [...path.run.flat(), ...path.truth];
  const low = [0, 1, 2].map((i) => Math.min(...all.map((p) => p[i])));
  const high = [0, 1, 2].map((i) => Math.max(...all.map((p) => p[i])));
  const middle = low.map((value, i) => (value + high[i]) / 2);
  const reach = Math.max(Math.hypot(...high.map((value, i) => value - low[i])) / 2, 1e-3);
  const step = niceStep(reach / 3);
  const floor = low[2] - reach * 0.08;

  function draw(context, width, height, ratio, view) {
    const [cy, sy, cp, sp] = [Math.cos(view.yaw), Math.sin(view.yaw), Math.cos(view.pitch), Math.sin(view.pitch)];
    const focal = Math.min(width, height) * 1.45, away = reach * 3.1 / view.closer;
    const project = (p) => {
      const x0 = p[0] - middle[0], y0 = p[1] - middle[1], z0 = p[2] - middle[2];
      const ahead = cy * x0 - sy * y0, left = sy * x0 + cy * y0;
      const depth = Math.max(cp * ahead - sp * z0 + away, away * 0.05), up = sp * ahead + cp * z0;
      return [width / 2 - left * focal / depth, height / 2 - up * focal / depth];
    };
    const line = (points, style, thick, dash = []) => {
      context.beginPath();
      points.forEach((p, i) => context[i ? 'lineTo' : 'moveTo'](...project(p)));
      Object.assign(context, { strokeStyle: style, lineWidth: thick * ratio, lineJoin: 'round', lineCap: 'round' });
      context.setLineDash(dash.map((length) => length * ratio));
      context.stroke();
      context.setLineDash([]);
    };
    const dot = (p, radius, fill, rim) => {
      context.beginPath();
      context.arc(...project(p), radius * ratio, 0, 7);
      Object.assign(context, { fillStyle: fill, strokeStyle: rim, lineWidth: 1.6 * ratio });
      context.fill();
      context.stroke();
    };
    const word = (text, p, dx, dy, style) => {
      const [u, v] = project(p);
      Object.assign(context, { fillStyle: style, font: `${12 * ratio}px ${getComputedStyle(document.body).fontFamily}` });
      context.fillText(text, u + dx * ratio, v + dy * ratio);
    };
    const [ink, soft, rule, accent, ground] = ['--ink', '--soft', '--rule', '--a', '--raised'].map(colour);
    context.clearRect(0, 0, width, height);
    const from = [0, 1].map((i) => Math.floor((low[i] - step * 0.5) / step) * step);
    const to = [0, 1].map((i) => Math.ceil((high[i] + step * 0.5) / step) * step);
    for (let x = from[0]; x <= to[0] + step / 2; x += step) line([[x, from[1], floor], [x, to[1], floor]], rule, 1);
    for (let y = from[1]; y <= to[1] + step / 2; y += step) line([[from[0], y, floor], [to[0], y, floor]], rule, 1);
    if (path.truth.length) line(path.truth, colour('--truth'), 1.4, [1.5, 4]);
    for (const view of path.views) {
      const arm = reach * 0.13;
      const ends = [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([sx, sy]) => {
        const ray = [sx * path.slope[0] * arm, sy * path.slope[1] * arm, arm];
        return view.at.map((value, i) => value + view.R[i][0] * ray[0] + view.R[i][1] * ray[1] + view.R[i][2] * ray[2]);
      });
      line([...ends, ends[0]], soft, 0.8);
      ends.forEach((end) => line([view.at, end], soft, 0.8));
    }
    for (const piece of path.run) {
      line(piece, accent, 2);
      dot(piece[0], 3.5, ground, accent);
      dot(piece[piece.length - 1], 3.5, accent, accent);
    }
    word('start', path.run[0][0], 8, -6, ink);
    const foot = [34 * ratio, height - 30 * ratio];
    for (const [name, x, y, z] of [['x', 1, 0, 0], ['y', 0, 1, 0], ['z', 0, 0, 1]]) {
      const ahead = cy * x - sy * y, left = sy * x + cy * y;
      const [du, dv] = [-left, -(sp * ahead + cp * z)];
      context.beginPath();
      context.moveTo(...foot);
      context.lineTo(foot[0] + 22 * ratio * du, foot[1] + 22 * ratio * dv);
      Object.assign(context, { strokeStyle: soft, lineWidth: 1.4 * ratio, fillStyle: soft });
      context.stroke();
      context.fillText(name, foot[0] + (30 * du - 3) * ratio, foot[1] + (30 * dv + 4) * ratio);
    }
    Object.assign(context, { fillStyle: soft, font: `${12 * ratio}px ${getComputedStyle(document.body).fontFamily}`, textAlign: 'right' });
    context.fillText(`grid ${Number(step.toPrecision(3))} ${path.unit}`, width - 12 * ratio, height - 12 * ratio);
    context.textAlign = 'left';
  }
  new Orbit(figure.querySelector('canvas'), { yaw: 0.6, pitch: 0.45, sway: 0.3 }, draw);
}

function showLarger() {
  const dialog = document.getElementById('larger');
  const words = dialog.querySelector('output'), place = dialog.querySelector('div');
  for (const moment of document.querySelectorAll('.moment')) {
    const cloud = clouds[Number(moment.dataset.moment)];
    const time = moment.querySelector('figcaption span').textContent;
    const read = (event) => {
      const box = event.target.getBoundingClientRect();
      const u = Math.min(cloud.width - 1, Math.floor((event.clientX - box.left) / box.width * cloud.width));
      const v = Math.min(cloud.height - 1, Math.floor((event.clientY - box.top) / box.height * cloud.height));
      const depth = cloud.depth[Math.max(0, v) * cloud.width + Math.max(0, u)];
      return depth ? `${depth.toPrecision(3)} ${cloud.unit}` : 'not known';
    };
    moment.querySelector('button').addEventListener('click', () => {
      place.replaceChildren(...[...moment.querySelectorAll('img')].map((image) => image.cloneNode()));
      words.textContent = time;
      place.onpointermove = (event) => { if (event.target.tagName === 'IMG') words.textContent = `${time} · depth ${read(event)}`; };
      dialog.showModal();
    });
    const caption = moment.querySelector('figcaption span');
    moment.addEventListener('pointermove', (event) => { if (event.target.tagName === 'IMG') caption.textContent = `${time} · ${read(event)}`; });
    moment.addEventListener('pointerleave', () => { caption.textContent = time; });
  }
  dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });
}

if (document.getElementById('cloud')) showCloud(document.getElementById('cloud'));
if (document.getElementById('path')) showPath(document.getElementById('path'));
showLarger();
